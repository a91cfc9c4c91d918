"""Each multiplexer as a ``selectors.BaseSelector``, beyond what CPython's own tests look at."""

import asyncio
import re
import socket
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

import pytest

from neverblock.multiplexers import Selector

Connected = Callable[[], tuple[socket.socket, socket.socket]]


def test_modify_that_fails_unregisters(
    multiplexer: Selector, connected: Connected, backend: str
) -> None:
    if backend not in ("epoll", "io_uring", "kqueue"):
        pytest.skip("nothing is asked of the kernel before the next wait")
    ours, _ = connected()
    fd = ours.fileno()
    multiplexer.register(fd, EVENT_READ)
    ours.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        multiplexer.modify(fd, EVENT_WRITE)
    with pytest.raises(KeyError):
        multiplexer.get_key(fd)
    assert not multiplexer.get_map()


def test_register_that_fails_leaves_nothing(multiplexer: Selector, connected: Connected) -> None:
    ours, _ = connected()
    fd = ours.fileno()
    ours.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        multiplexer.register(fd, EVENT_READ)
    assert not multiplexer.get_map()
    with pytest.raises(KeyError):
        multiplexer.unregister(fd)


@pytest.mark.parametrize("fileobj", [None, "0", 1.0, object(), -1, b"x"])
def test_not_a_file(multiplexer: Selector, fileobj: Any) -> None:
    for call in (
        lambda: multiplexer.register(fileobj, EVENT_READ),
        lambda: multiplexer.modify(fileobj, EVENT_READ),
        lambda: multiplexer.unregister(fileobj),
        lambda: multiplexer.get_key(fileobj),
    ):
        with pytest.raises(ValueError, match=r"file descriptor.*" + re.escape(repr(fileobj))):
            call()


@pytest.mark.parametrize("events", [0, 4, 7, EVENT_READ | 8])
def test_bad_events(multiplexer: Selector, connected: Connected, events: int) -> None:
    ours, _ = connected()
    with pytest.raises(ValueError, match="EVENT_READ and EVENT_WRITE"):
        multiplexer.register(ours, events)
    multiplexer.register(ours, EVENT_WRITE)
    with pytest.raises(ValueError, match="mask"):
        multiplexer.modify(ours, events)
    assert not multiplexer.get_map()


def test_what_is_added_below_does_not_show(multiplexer: Selector, connected: Connected) -> None:
    ours, theirs = connected()
    multiplexer._add(ours.fileno(), EVENT_WRITE)
    assert multiplexer.select(0) == []
    assert not multiplexer.get_map()
    key = multiplexer.register(theirs, EVENT_WRITE, "data")
    assert multiplexer.select(0) == [(key, EVENT_WRITE)]


def test_after_close(multiplexer: Selector, connected: Connected) -> None:
    ours, _ = connected()
    multiplexer.register(ours, EVENT_READ)
    multiplexer.close()
    multiplexer.close()
    assert multiplexer.get_map() is None
    with pytest.raises(RuntimeError, match="closed"):
        multiplexer.get_key(ours)
    with pytest.raises(ValueError, match="closed"):
        multiplexer.register(ours, EVENT_READ)
    with pytest.raises(ValueError, match="closed"):
        multiplexer.select(0)
    with pytest.raises(KeyError):
        multiplexer.unregister(ours)


def test_asyncio_own_loop(multiplexer: Selector) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def client(port: int, message: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(message)
        writer.write_eof()
        assert await reader.read() == message
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            await asyncio.gather(*(client(port, bytes([n]) * 200_000) for n in range(20)))
        assert await asyncio.to_thread(sum, [1, 2]) == 3
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        assert await process.communicate(b"x" * 100_000) == (b"x" * 100_000, None)

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(multiplexer)) as runner:
        runner.run(main())
    assert multiplexer.get_map() is None, "the loop closed it"
    assert multiplexer.statistics()["events_out"] > 40
