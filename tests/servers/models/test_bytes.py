"""What is sent arrives: in order, whole, both ways at once, past a half that is closed."""

import hashlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neverblock.servers import MODELS
from tests.servers.models.matrix import Bind, Serve
from tests.servers.proc import peak
from tests.servers.serving import exactly, served
from tests.servers.wire import ask, end, everything, exchange

MIB = 1024 * 1024


def test_says_which_model_it_is(serve: Serve, model: str, bind: Bind) -> None:
    with serve("echo") as server:
        backend = ", backend epoll" if ", backend epoll" in server.lines[0] else ""
        assert (backend != "") == (model == "loop") or sys.platform != "linux"
        secured = ", TLS" if bind.kind == "tls" else ""
        details = f"(model {model}{backend}{secured}, pid {server.pid})"
        assert server.lines[0].partition(" (")[2] == details[1:]
        assert server.stop() == 0
    assert not Path(bind.url.removeprefix("unix://")).exists()


def test_bytes_keep_their_order_both_ways(serve: Serve) -> None:
    data = random.Random(1).randbytes(5_000_000)
    answer = bytearray()
    with serve("echo") as server:
        with server.connect() as client:
            exchange(client, of_every_size(data), answer.extend)
        assert answer == data
        assert server.stop() == 0
        assert "ERROR" not in server.log


def of_every_size(data: bytes) -> Iterator[bytes]:
    sizes = random.Random(2)
    at = 0
    while at < len(data):
        size = sizes.choice((1, 10, 1_000, 100_000))
        yield data[at : at + size]
        at += size


def test_a_hundred_megabytes_go_both_ways_at_once(serve: Serve) -> None:
    sent, answered = hashlib.blake2b(), hashlib.blake2b()

    def numbered() -> Iterator[bytes]:
        """No two pieces are the same, so none can take the place of another."""
        filling = random.Random(3).randbytes(MIB - 8)
        for position in range(100):
            piece = position.to_bytes(8, "big") + filling
            sent.update(piece)
            yield piece

    with serve("echo") as server:
        with server.connect() as client:
            exchange(client, numbered(), answered.update)
        assert answered.digest() == sent.digest()
        assert server.stop() == 0
        assert "ERROR" not in server.log


@pytest.mark.memory
@pytest.mark.parametrize("model", [model for model in MODELS if model != "process"])
def test_large_transfers_pass_through_little_memory(serve: Serve) -> None:
    """The process model's children are gone by then; see test_slow.py."""
    with serve("echo") as server:
        with server.connect() as client:
            assert ask(client, b"hello") == b"hello"
            before = peak(server.pid)
            exchange(client, (bytes(MIB) for _ in range(50)), len)
        assert peak(server.pid) - before < 20 * 1024
        assert server.stop() == 0


def test_a_half_closed_client_gets_its_answer(serve: Serve) -> None:
    with serve("whole") as server:
        for word in (b"first", b"second", b""):
            with server.connect() as client:
                client.sendall(word)
                end(client)
                assert everything(client) == word
        assert server.stop() == 0


def test_a_server_may_close_its_half(serve: Serve) -> None:
    with serve("closing") as server:
        with server.connect() as client:
            assert everything(client) == b"bye"
            client.sendall(b"and you?")
            end(client)
        server.wait_until_logged("send_eof() was called")
        assert server.stop() == 0


def test_a_closed_stream_says_so(serve: Serve) -> None:
    with serve("closed") as server:
        with server.connect() as client:
            assert everything(client) == b"bye"
        assert server.process.stdout is not None
        while "is closed: aclose() was called" not in server.process.stdout.readline():
            pass
        assert server.stop() == 0


def test_listeners_take_turns(app: str, tmp_path: Path) -> None:
    binds = ("tcp://127.0.0.1:0", f"unix://{tmp_path}/app.sock")
    with served(f"{app}:lines", "--model", "iterative", binds=binds) as server:
        clients = [server.connect(line) for line in (0, 1) for _ in range(3)]
        for client in clients:
            client.sendall(b"hello\n")
            end(client)
        with server.connect(1) as client:
            assert ask(client, b"hello\n") == b"hello\n"
        for client in clients:
            assert exactly(client, 6) == b"hello\n"
            client.close()
        assert server.stop() == 0
