"""The process model's own: children are of their own, crash alone, are reaped, print once."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.proc import children, eventually
from tests.servers.serving import exactly, served
from tests.servers.wire import ask, everything

MODEL = ("--model", "process")


def test_a_process_that_crashes_costs_its_own_client_only(app: str) -> None:
    with served(f"{app}:crash", *MODEL) as server:
        with server.connect() as bystander, server.connect() as victim:
            victim.sendall(b"crash")
            with pytest.raises(ConnectionResetError):
                everything(victim)
            bystander.sendall(b"go on")
            assert everything(bystander) == b"alive"
        server.wait_until_logged("died by SIGSEGV")
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 5, f"signal {signal.SIGRTMIN + 5}")],
    ids=["SIGKILL", "real-time"],
)
def test_a_process_that_is_killed_costs_its_own_client_only(
    app: str, number: int, name: str
) -> None:
    with served(f"{app}:lines", *MODEL) as server:
        with server.connect() as victim:
            assert ask(victim, b"hello\n") == b"hello\n"
            [child] = children(server.pid)
            with server.connect() as bystander:
                assert ask(bystander, b"hello\n") == b"hello\n"
                os.kill(child, number)
                with pytest.raises(ConnectionResetError):
                    everything(victim)
                assert ask(bystander, b"hello\n") == b"hello\n"
        server.wait_until_logged(f"process {child}, which served ")
        assert f"died by {name}" in server.log
        eventually(lambda: not children(server.pid))
        assert server.stop() == 0


def test_a_process_that_exits_is_told(app: str) -> None:
    with served(f"{app}:leaving", *MODEL) as server:
        with server.connect() as client:
            client.sendall(b"leave")
            with pytest.raises(ConnectionResetError):
                everything(client)
        server.wait_until_logged("exited with 3")
        assert server.stop() == 0


def test_processes_are_of_their_own_and_reaped(app: str) -> None:
    with served(f"{app}:pid", *MODEL) as server:
        with ExitStack() as opened:
            clients = [opened.enter_context(server.connect()) for _ in range(10)]
            pids = [int(client.makefile().readline()) for client in clients]
            assert sorted(pids) == sorted(children(server.pid))
        eventually(lambda: not children(server.pid))
        assert server.stop() == 0


def test_what_is_printed_is_printed_once(app: str) -> None:
    with served(f"{app}:printing", *MODEL) as server:
        for _ in range(3):
            with server.connect() as client:
                client.sendall(b"x")
                assert everything(client) == b""
        assert server.stop() == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == "served b'x'\n" * 3


def test_a_server_is_one_process(app: str) -> None:
    """Its children end with it, whatever their clients do."""
    with (
        served(f"{app}:deaf", *MODEL, "--drain-timeout", "0") as server,
        server.connect() as client,
    ):
        client.sendall(b"half")
        assert exactly(client, 5) == b"hello"
        [child] = children(server.pid)
        assert server.stop() == 3
        with pytest.raises(ConnectionResetError):
            everything(client)
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_is_one_signal(app: str, number: int) -> None:
    """As Ctrl-C sends it: the children drain with their parent, and finish what they are at."""
    with served(f"{app}:sized", *MODEL, "--drain-timeout", "600") as server:
        with server.connect() as client:
            client.sendall((10).to_bytes(4, "big") + bytes(5))
            assert client.recv(1) == b"?"
            for pid in (*children(server.pid), server.pid):
                os.kill(pid, number)
            server.wait_until_logged("draining")
            client.sendall(bytes(5))
            assert exactly(client, 4) == (10).to_bytes(4, "big")
        assert server.wait() == 0
        assert "ERROR" not in server.log
        assert " reset" not in server.log
