"""SIGTERM: who is idle ends, who is at work finishes, who takes too long is reset."""

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.models.matrix import Bind, Serve
from tests.servers.proc import children
from tests.servers.serving import Process, exactly, reset, served
from tests.servers.wire import Client, ask, everything

FOR_EVER = ("--drain-timeout", "600")


def another(server: Process, model: str) -> Client:
    """A client beside one that is served: under the iterative model, nobody speaks with it."""
    return server.open() if model == "iterative" else server.connect()


def test_a_signal_ends_idle_connections_at_once(serve: Serve, model: str) -> None:
    with serve("echo", *FOR_EVER) as server:
        with server.connect() as client, another(server, model) as silent:
            assert ask(client, b"hello") == b"hello"
            if model != "iterative":  # There it waits in the kernel, and is refused.
                assert ask(silent, b"hello") == b"hello"
            assert server.stop() == 0
            assert client.recv(10) == b""
        assert "SIGTERM: draining" in server.log
        assert " reset" not in server.log
        assert "ERROR" not in server.log


def test_a_message_that_has_begun_is_finished(serve: Serve) -> None:
    with serve("sized", *FOR_EVER) as server:
        with server.connect() as client:
            client.sendall((1000).to_bytes(4, "big") + bytes(400))
            assert client.recv(1) == b"?"
            server.send()
            server.wait_until_logged("draining")
            client.sendall(bytes(600))
            assert exactly(client, 4) == (1000).to_bytes(4, "big")
        assert server.wait() == 0
        assert " reset" not in server.log


def test_a_handler_at_work_is_let_finish(serve: Serve) -> None:
    with serve("slow", *FOR_EVER) as server:
        with server.connect() as client:
            client.sendall(b"answer")
            assert exactly(client, 4) == b"wait"
            assert server.stop() == 0
            assert everything(client) == b"answer"
        assert " reset" not in server.log


def test_an_answer_that_is_being_read_slowly_is_let_finish(serve: Serve) -> None:
    size = 20_000_000
    with serve("generous", *FOR_EVER) as server:
        with server.connect() as client:
            client.sendall(b"%d\n" % size)
            received = len(client.recv(1000))
            server.send()
            server.wait_until_logged("draining")
            while chunk := client.recv(65536):
                received += len(chunk)
            assert received >= size
        assert server.wait() == 0
        assert " reset" not in server.log


@pytest.mark.parametrize("handler", ["deaf", "stubborn"])
def test_stragglers_are_reset_and_counted(serve: Serve, model: str, handler: str) -> None:
    """Those that wait for their client, to receive or to send."""
    with serve(handler, "--drain-timeout", "0.2") as server:
        with ExitStack() as opened:
            number = 1 if model == "iterative" else 3
            for _ in range(number):
                client = opened.enter_context(server.connect())
                client.sendall(b"half")
                assert exactly(client, 5)
            left = children(server.pid)
            assert server.stop() == 3
        plural = "" if number == 1 else "s"
        expected = f"drain timeout of 0.2 s is over: {number} connection{plural} reset"
        assert expected in server.log
        assert "ERROR" not in server.log
        assert not any(Path(f"/proc/{pid}").exists() for pid in left)


def test_a_second_signal_does_not_wait(app: str, model: str) -> None:
    with served(f"{app}:deaf", "--model", model, *FOR_EVER) as server:
        with server.connect() as client:
            client.sendall(b"half")
            assert exactly(client, 5) == b"hello"
            server.send()
            server.wait_until_logged("draining")
            assert server.stop() == 3
        assert "told to stop again: 1 connection reset" in server.log


def test_nobody_is_accepted_while_it_drains(serve: Serve, bind: Bind) -> None:
    with serve("sized", *FOR_EVER) as server:
        with server.connect() as client:
            client.sendall((10).to_bytes(4, "big") + bytes(5))
            assert client.recv(1) == b"?"
            server.send()
            server.wait_until_logged("draining")
            if bind.kind == "unix":
                # The file goes first, so that a server to come can take its place.
                path = Path(bind.url.removeprefix("unix://"))
                while path.exists():
                    pass
            with pytest.raises((ConnectionError, FileNotFoundError)):
                while True:  # Until the listening socket, too, is closed.
                    server.open().close()
            client.sendall(bytes(5))
            assert exactly(client, 4) == (10).to_bytes(4, "big")
        assert server.wait() == 0


def test_the_log_of_python_s_own_checks_is_empty(serve: Serve, model: str) -> None:
    with serve("echo", python=("-X", "dev")) as server:
        with server.connect() as client, another(server, model) as rude:
            assert ask(client, b"hello") == b"hello"
            reset(rude)
            assert server.stop(signal.SIGINT) == 0
        assert "Warning" not in server.log
        assert "SIGINT: draining" in server.log


@pytest.mark.parametrize("model", ["iterative"])
def test_who_waits_in_the_kernel_is_turned_away_at_once(serve: Serve) -> None:
    with serve("deaf", *FOR_EVER) as server:
        with server.connect() as client, server.open() as waiting:
            client.sendall(b"half")
            assert exactly(client, 5) == b"hello"
            server.send()
            server.wait_until_logged("draining")
            try:
                assert waiting.recv(1) == b""
            except ConnectionResetError:
                pass
            client.sendall(b"all")
        assert server.wait() == 0
