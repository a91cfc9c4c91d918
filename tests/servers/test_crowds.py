"""Thousands of live connections at once, and all of them served."""

import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.servers.crowd import ask_each, crowd, descriptors_for
from tests.servers.models.matrix import APP
from tests.servers.proc import descriptors, eventually, holdings, threads
from tests.servers.serving import exactly, served
from tests.servers.wire import ask

#: Memory that a connection's process may need, most of it page tables, bytes.
PER_PROCESS = 3 * 1024 * 1024

Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Prints what whoever reads the outcome of the tests must know."""

    def saying(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")

    return saying


def test_the_loop_model_holds_15_000_connections_in_one_thread(say: Say) -> None:
    with (
        descriptors_for(15_000, say) as count,
        served(f"{APP}:lines", "--drain-timeout", "600") as server,
        crowd(server, count) as clients,
    ):
        ask_each(clients, b"first")
        assert threads(server.pid) == 1
        assert len(descriptors(server.pid)) > count
        ask_each(clients[::-1], b"again")
        assert server.stop() == 0
        assert all(client.recv(1) == b"" for client in clients)
        assert "ERROR" not in server.log
        assert " reset" not in server.log


@pytest.mark.parametrize("model", ["process", "thread"])
def test_a_thousand_have_a_process_or_a_thread_each(model: str, say: Say) -> None:
    wanted = 1_000 if model == "thread" else as_memory_allows(1_000, say)
    with (
        descriptors_for(wanted, say) as count,
        served(f"{APP}:lines", "--model", model, "--drain-timeout", "600") as server,
    ):
        before = holdings(server.pid)
        with crowd(server, count) as clients:
            ask_each(clients, b"first")
            now = holdings(server.pid)
            if model == "process":
                assert now.children == before.children + count
            else:
                assert now.threads == before.threads + count
            ask_each(clients[::-1], b"again")
            for client in clients[::2]:
                client.close()
            ask_each(clients[1::2], b"once more")
        eventually(lambda: holdings(server.pid).within(before))
        assert server.stop() == 0
        assert "ERROR" not in server.log


def as_memory_allows(processes: int, say: Say) -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return processes
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    most = min(processes, available * 1024 // PER_PROCESS)
    if most < processes:
        say(f"{most:,} processes instead of {processes:,}: {available:,} KiB of memory are free")
    return most


def test_5_000_clients_that_dawdle_keep_nobody_from_being_served(say: Say) -> None:
    """Slowloris: each sends a byte now and then, and never comes to an end."""
    with (
        descriptors_for(5_001, say) as count,
        served(f"{APP}:lines", "--drain-timeout", "600") as server,
        crowd(server, count - 1) as dawdlers,
    ):
        stop = threading.Event()
        rounds: list[int] = []
        dawdling = threading.Thread(target=dawdle, args=(dawdlers, stop, rounds))
        dawdling.start()
        try:
            with server.connect() as client:
                asked = 0
                while asked < 200 or len(rounds) < 2:
                    assert ask(client, b"hello %d\n" % asked) == b"hello %d\n" % asked
                    asked += 1
        finally:
            stop.set()
            dawdling.join()
        # Every one of their bytes is there, too.
        for number_, client in enumerate(dawdlers):
            client.sendall(b"\n")
            assert exactly(client, len(rounds) + 1) == b"x" * len(rounds) + b"\n", number_
        assert server.stop() == 0
        assert "ERROR" not in server.log


def dawdle(clients: Sequence[socket.socket], stop: threading.Event, rounds: list[int]) -> None:
    """A byte from each, again and again; only whole rounds."""
    while not stop.is_set():
        for client in clients:
            client.sendall(b"x")
        rounds.append(len(clients))
