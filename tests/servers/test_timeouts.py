"""Peers that keep a handler waiting, and handlers that take too long, under every model."""

import select
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from neverblock.servers import MODELS
from tests.servers.serving import exactly, served

APP = '''
import asyncio, time

async def echo(stream):
    async for chunk in stream:
        await stream.send(chunk)

async def flood(stream):
    while True:
        await stream.send(b"x" * 65536)

async def leave(stream):
    """Leave more unsent than the kernel takes."""
    await stream.send(b"x" * 50_000_000)

async def exact(stream):
    await stream.send(await stream.receive_exactly(4))

async def busy(stream):
    await stream.send(b"hello")
    if stream.info.model == "loop":
        await asyncio.sleep(600)
    else:
        time.sleep(600)

def brief(stream):
    time.sleep(0.4)
    stream.send(b"done")

async def both(reader, writer):
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
    writer.close()

HALF = bytes(10_000_000)

async def much(stream):
    """Have much taken: as it is sent, at the end, or while it receives."""
    way = await stream.receive_exactly(1)
    if way == b"s":
        await stream.send(HALF)
        await stream.send(HALF)
    elif way == b"e":
        await stream.send(HALF + HALF)
    else:
        sending = asyncio.create_task(stream.send(HALF + HALF))
        await stream.receive()
        await sending

async def much_written(reader, writer):
    way = await reader.readexactly(1)
    if way == b"s":
        for _ in range(2):
            writer.write(HALF)
            await writer.drain()
    elif way == b"e":
        writer.writelines([HALF, HALF])
    else:
        asyncio.get_running_loop().call_soon(writer.write, HALF + HALF)
        await reader.read()

async def heap(reader, writer):
    """Write on, and never wait until it is taken."""
    while True:
        writer.write(bytes(1_000_000))
        await asyncio.sleep(0.01)

async def late(reader, writer):
    await asyncio.sleep(1.9)
    writer.write(b"?")
    writer.write(await reader.read(1))
'''


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "app.py"
    path.write_text(APP)
    return str(path)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return request.param


def until_the_end(client: socket.socket) -> bytes:
    """All that comes until the end; a reset is one as well."""
    data = bytearray()
    try:
        while chunk := client.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return bytes(data)


def test_a_silent_client_is_closed_and_named(app: str, model: str) -> None:
    with served(f"{app}:echo", "--model", model, "--idle-timeout", "0.2") as server:
        with server.connect() as client:
            host, port = client.getsockname()
            client.sendall(b"hello")
            assert exactly(client, 5) == b"hello"
            assert until_the_end(client) == b""
        server.wait_until_logged(f"closing {host}:{port}: idle for 0.2 s")
        with server.connect() as client:
            client.sendall(b"hello")
            assert exactly(client, 5) == b"hello"
        assert server.stop() == 0


def test_every_byte_counts(app: str, model: str) -> None:
    """A slow client is not a silent one."""
    with served(f"{app}:exact", "--model", model, "--idle-timeout", "1") as server:
        with server.connect() as client:
            for byte in b"slow":
                client.sendall(bytes([byte]))
                select.select([client], [], [], 0.4)  # In all, more than the server's patience.
            assert exactly(client, 4) == b"slow"
        assert server.stop() == 0
        assert "idle" not in server.log


@pytest.mark.parametrize("handler", ["flood", "leave"])
def test_a_client_that_takes_nothing_is_closed(app: str, model: str, handler: str) -> None:
    with served(f"{app}:{handler}", "--model", model, "--idle-timeout", "0.3") as server:
        with server.connect():
            server.wait_until_logged("idle for 0.3 s")
        assert server.stop() == 0


@pytest.mark.parametrize("handler", ["much", "much_written"])
def test_a_client_that_takes_slowly_is_not_silent(app: str, handler: str) -> None:
    with served(f"{app}:{handler}", "--idle-timeout", "1") as server, ExitStack() as opened:
        clients = [opened.enter_context(server.connect()) for _ in range(3)]
        for client, way in zip(clients, (b"s", b"e", b"r"), strict=True):
            # What the kernel holds for it counts as taken.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 200_000)
            client.sendall(way)
        for _ in range(10):
            for client in clients:
                assert len(exactly(client, 2_000_000)) == 2_000_000
            select.select([], [], [], 0.2)  # In all, more than the server's patience.
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            assert until_the_end(client) == b""
        assert server.stop() == 0
        assert "idle" not in server.log


def test_a_writer_that_goes_on_hides_no_client_that_takes_nothing(app: str) -> None:
    with served(f"{app}:heap", "--idle-timeout", "0.3") as server:
        with server.connect():
            server.wait_until_logged("idle for 0.3 s")
        assert server.stop() == 0


def test_a_reader_has_waited_since_it_was_read_from(app: str) -> None:
    with served(f"{app}:late", "--idle-timeout", "1") as server:
        with server.connect() as client:
            assert exactly(client, 1) == b"?"
            select.select([client], [], [], 0.4)
            client.sendall(b"!")
            assert until_the_end(client) == b"!"
        assert server.stop() == 0


def test_a_handler_that_takes_too_long_is_ended(app: str, model: str) -> None:
    options = ("--model", model, "--handler-timeout", "0.3", "--drain-timeout", "0")
    with served(f"{app}:busy", *options) as server:
        with server.connect() as client:
            assert exactly(client, 5) == b"hello"
            assert until_the_end(client) == b""
        server.wait_until_logged("its handler takes longer than 0.3 s")
        server.stop()


def test_a_handler_in_time_is_left_alone(app: str, model: str) -> None:
    with served(f"{app}:exact", "--model", model, "--handler-timeout", "60") as server:
        with server.connect() as client:
            client.sendall(b"done")
            assert exactly(client, 4) == b"done"
            assert until_the_end(client) == b""
        assert server.stop() == 0
        assert "longer" not in server.log


@pytest.mark.parametrize("options", [("--model", "pool"), ("--offload",)])
def test_the_wait_for_a_thread_is_not_the_handler_s_time(
    app: str, options: tuple[str, ...]
) -> None:
    limits = ("--pool-size", "1", "--max-connections", "4", "--handler-timeout", "1")
    with served(f"{app}:brief", *options, *limits) as server, ExitStack() as opened:
        clients = [opened.enter_context(server.connect()) for _ in range(4)]
        for client in clients:
            assert until_the_end(client) == b"done"
        assert server.stop() == 0
        assert "longer" not in server.log


def test_a_reader_and_a_writer_have_the_same_timeouts(app: str) -> None:
    with served(f"{app}:both", "--idle-timeout", "0.2") as server:
        with server.connect() as client:
            client.sendall(b"hello")
            assert exactly(client, 5) == b"hello"
            assert until_the_end(client) == b""
        server.wait_until_logged("idle for 0.2 s")
        assert server.stop() == 0


@pytest.mark.parametrize("option", ["--idle-timeout", "--handler-timeout"])
def test_many_connections_end_in_time(app: str, option: str) -> None:
    with served(f"{app}:echo", option, "0.5") as server, ExitStack() as opened:
        clients = [opened.enter_context(server.connect()) for _ in range(200)]
        for client in clients:
            assert until_the_end(client) == b""
        assert server.stop() == 0
