"""Handlers that are no `async def handle(stream)`, under the loop model."""

import signal
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.serving import exactly, neverblock, served

APP = r"""
import asyncio, contextvars, os, signal, threading, time

inside = threading.Semaphore(0)
request = contextvars.ContextVar("request")

def echo(stream):
    for chunk in stream:
        stream.send(chunk)

def whole(stream):
    stream.send(b"".join(stream))
    stream.send_eof()

def where(stream):
    request.set(stream.peer)
    stream.send(f"{stream.info.model} {threading.current_thread().name} {stream.peer}".encode())

def failing(stream):
    stream.send(stream.receive_exactly(3))
    raise LookupError("nothing here")

def leaving(stream):
    raise SystemExit(3)

def deaf(stream):
    stream.send(b"hello")
    time.sleep(600)

async def both(reader, writer):
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()

async def lines(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())

async def held_up(reader, writer):
    'Gets on after its first line when there is a SIGUSR1.'
    on = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, on.set)
    read = {
        b"line\n": reader.readline,
        b"some\n": lambda: reader.read(5),
        b"size\n": lambda: reader.readexactly(5),
        b"rest\n": reader.read,
    }[await reader.readline()]
    writer.write(b"?")
    await on.wait()
    try:
        while data := await read():
            writer.write(data)
    except asyncio.IncompleteReadError as error:
        assert not error.partial

async def failing_too(reader, writer):
    writer.write(await reader.readexactly(3))
    raise LookupError("nothing here")

async def silent(reader, writer):
    writer.write(b"hello")
    await asyncio.sleep(600)
"""


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "app.py"
    path.write_text(APP)
    return str(path)


def everything(client: socket.socket) -> bytes:
    data = b""
    while chunk := client.recv(65536):
        data += chunk
    return data


def test_a_plain_handler_is_offloaded(app: str) -> None:
    with served(f"{app}:echo", "--offload", "--pool-size", "3") as server:
        with ExitStack() as opened:
            clients = [opened.enter_context(server.connect()) for _ in range(3)]
            for number, client in enumerate(clients):
                client.sendall(b"%d" % number)
            for number, client in enumerate(clients):
                assert exactly(client, 1) == b"%d" % number
        assert server.stop() == 0
        assert server.own_log.count("\n") == 1


def test_more_clients_than_threads_wait_for_one(app: str) -> None:
    with served(f"{app}:echo", "--offload", "--pool-size", "1") as server:
        with server.connect() as first, server.connect() as second:
            second.sendall(b"second")
            first.sendall(b"first")
            assert exactly(first, 5) == b"first"
            first.shutdown(socket.SHUT_WR)
            assert everything(first) == b""
            assert exactly(second, 6) == b"second"
        assert server.stop() == 0


def test_large_input_goes_through_a_thread(app: str) -> None:
    data = bytes(range(256)) * 20_000
    with served(f"{app}:whole", "--offload") as server, server.connect() as client:

        def send() -> None:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        assert everything(client) == data
        sending.join()
        assert server.stop() == 0


def test_an_offloaded_handler_knows_where_it_is(app: str) -> None:
    with served(f"{app}:where", "--offload") as server, server.connect() as client:
        host, port = client.getsockname()
        model, *thread, peer = everything(client).decode().split()
        assert (model, thread[0], peer) == ("loop", "offload", f"{host}:{port}")


@pytest.mark.parametrize(
    ("handler", "named"),
    [("failing", "LookupError: nothing here"), ("leaving", "the handler raised SystemExit")],
)
def test_a_failing_offloaded_handler_ends_its_own_connection(
    app: str, handler: str, named: str
) -> None:
    with served(f"{app}:{handler}", "--offload") as server:
        with server.connect() as client:
            client.sendall(b"abc")
            assert everything(client) == (b"abc" if handler == "failing" else b"")
            server.wait_until_logged(named)
        with server.connect() as client:
            client.sendall(b"abc")
            assert everything(client) == (b"abc" if handler == "failing" else b"")
        assert server.stop() == 0


def test_an_idle_offloaded_handler_ends_with_the_drain(app: str) -> None:
    with served(f"{app}:echo", "--offload") as server, server.connect() as client:
        client.sendall(b"hello")
        assert exactly(client, 5) == b"hello"
        assert server.stop() == 0
        assert everything(client) == b""


def test_a_thread_that_is_stuck_is_left_behind(app: str) -> None:
    with served(f"{app}:deaf", "--offload", "--drain-timeout", "0") as server:
        with server.connect() as client:
            assert exactly(client, 5) == b"hello"
            server.stop()
            with pytest.raises(ConnectionResetError):
                everything(client)
        assert "1 connection reset" in server.log
        assert "Traceback" not in server.log


def test_a_reader_and_a_writer_will_do(app: str) -> None:
    with served(f"{app}:both") as server, server.connect() as client:
        client.sendall(b"hello")
        assert exactly(client, 5) == b"hello"
        client.sendall(b"bye")
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == b"bye"
        assert server.stop() == 0
        assert server.own_log.count("\n") == 1


def test_a_failing_reader_and_writer_ends_its_own_connection(app: str) -> None:
    with served(f"{app}:failing_too") as server:
        with server.connect() as client, server.connect() as other:
            client.sendall(b"abc")
            assert everything(client) == b"abc"
            server.wait_until_logged("LookupError: nothing here")
            other.sendall(b"xyz")
            assert everything(other) == b"xyz"
        assert server.stop() == 0


def test_a_reader_ends_with_the_drain(app: str) -> None:
    with served(f"{app}:lines") as server:
        with server.connect() as idle, server.connect() as begun:
            for client in (idle, begun):
                client.sendall(b"line\n")
                assert exactly(client, 5) == b"LINE\n"
            begun.sendall(b"half")
            # The server has it once it has answered somebody who came later.
            with server.connect() as later:
                later.sendall(b"later\n")
                assert exactly(later, 6) == b"LATER\n"
            server.send()
            assert everything(idle) == b""
            begun.sendall(b" a line\n")
            assert everything(begun) == b"HALF A LINE\n"
        assert server.wait() == 0
        assert "Traceback" not in server.log


@pytest.mark.parametrize("way", [b"line\n", b"some\n", b"size\n", b"rest\n"])
def test_a_reader_ends_when_what_it_held_at_the_drain_is_read(app: str, way: bytes) -> None:
    with served(f"{app}:held_up", "--drain-timeout", "600") as server:
        with server.connect() as client:
            client.sendall(way + b"one.\ntwo.\n")
            assert exactly(client, 1) == b"?"
            server.send()
            server.wait_until_logged("draining")
            server.send(signal.SIGUSR1)
            assert everything(client) == b"one.\ntwo.\n"
        assert server.wait() == 0
        assert "Traceback" not in server.log


def test_a_reader_that_does_not_end_is_reset(app: str) -> None:
    with served(f"{app}:silent", "--drain-timeout", "0") as server, server.connect() as client:
        assert exactly(client, 5) == b"hello"
        server.stop()
        with pytest.raises(ConnectionResetError):
            everything(client)
        assert "1 connection reset" in server.log


@pytest.mark.parametrize(
    ("handler", "options", "message"),
    [
        ("both", ("--model", "thread"), "serve it with --model loop"),
        ("both", ("--offload",), "leave --offload out"),
        ("echo", (), "serve it with --offload or --model thread"),
    ],
)
def test_a_handler_that_cannot_be_served_so_is_refused(
    app: str, handler: str, options: tuple[str, ...], message: str
) -> None:
    refused = neverblock("serve", f"{app}:{handler}", *options)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
