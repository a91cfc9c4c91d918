"""What clients do to a server, and what must be left of it: nothing."""

import asyncio
import gc
import logging
import random
import socket
import weakref

import pytest

from neverblock.servers import Stream, handler
from tests.servers.conftest import Run
from tests.servers.serving import connect, received, reset, serving


async def shout(stream: Stream) -> None:
    """Answers each line in capitals; "crash" crashes it."""
    while line := await stream.receive_until(b"\n", 1000):
        if line == b"crash\n":
            raise LookupError(line)
        await stream.send(line.upper())


@pytest.mark.parametrize("seed", range(3))
def test_random_clients_leave_nothing_behind(run: Run, seed: int, caplog, monkeypatch) -> None:
    # A record that pytest keeps would keep the traceback, its frames, and so the streams.
    monkeypatch.setattr(handler.logger, "propagate", False)
    randomly = random.Random(seed)
    streams: weakref.WeakSet[Stream] = weakref.WeakSet()

    async def remembered(stream: Stream) -> None:
        streams.add(stream)
        await shout(stream)

    async def client(url: str) -> None:
        events = asyncio.get_running_loop()
        sock = await connect(url)
        try:
            for _ in range(randomly.randrange(4)):
                what = randomly.randrange(6)
                if what == 0:
                    await events.sock_sendall(sock, b"hello\n")
                    assert await events.sock_recv(sock, 100) == b"HELLO\n"
                elif what == 1:
                    await events.sock_sendall(sock, b"half a li")
                    break
                elif what == 2:
                    sock.shutdown(socket.SHUT_WR)
                    await received(sock)
                    break
                elif what == 3:
                    await events.sock_sendall(sock, b"crash\n")
                    await received(sock)
                    break
                elif what == 4:
                    await events.sock_sendall(sock, b"x" * 1000)
                    await received(sock)
                    break
                else:
                    await asyncio.sleep(0)
        finally:
            (reset if randomly.random() < 0.5 else socket.socket.close)(sock)

    async def main() -> None:
        async with serving(remembered) as at:
            for _ in range(10):
                await asyncio.gather(*(client(at.url) for _ in range(10)))
            async with asyncio.timeout(10):
                await at.server.wait_idle()
            assert len(asyncio.all_tasks()) <= 2  # This one, and what bounds it in time.
            gc.collect()
            assert not streams
            # And it still serves.
            with await at.connect() as sock:
                await asyncio.get_running_loop().sock_sendall(sock, b"hello\n")
                assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"HELLO\n"

    run(main())
    for record in caplog.records:
        assert record.levelno < logging.WARNING, record.getMessage()


def test_a_stream_is_freed_without_the_garbage_collector(run: Run) -> None:
    freed = []

    async def handle(stream: Stream) -> None:
        weakref.finalize(stream, freed.append, True)
        await stream.receive()

    async def main() -> None:
        async with serving(handle) as at:
            gc.collect()
            gc.disable()
            try:
                for _ in range(10):
                    with await at.connect():
                        pass
                await at.server.wait_idle()
                await asyncio.sleep(0)
                assert len(freed) == 10
            finally:
                gc.enable()

    run(main())


def test_a_handler_that_is_cancelled_from_outside_ends_its_connection(run: Run) -> None:
    async def handle(stream: Stream) -> None:
        tasks.append(asyncio.current_task())
        await stream.receive()

    async def main() -> None:
        async with serving(handle) as at:
            with await at.connect() as sock:
                while not tasks:
                    await asyncio.sleep(0)
                tasks[0].cancel()
                assert await received(sock) == b""

    tasks: list[asyncio.Task[None]] = []
    run(main())


def test_a_handler_may_outlive_its_connection(run: Run) -> None:
    async def handle(stream: Stream) -> None:
        assert await stream.receive() == b""
        await stream.aclose()
        waiting.set()
        await go.wait()

    async def main() -> None:
        nonlocal go, waiting
        go, waiting = asyncio.Event(), asyncio.Event()
        async with serving(handle) as at:
            (await at.connect()).close()
            await waiting.wait()
            idle = asyncio.ensure_future(at.server.wait_idle())
            await asyncio.sleep(0)
            assert not idle.done()
            go.set()
            await idle

    go: asyncio.Event
    waiting: asyncio.Event
    run(main())


def test_abort_ends_a_handler_that_is_busy_sending(run: Run) -> None:
    async def handle(stream: Stream) -> None:
        try:
            while True:
                await stream.send(bytes(65536))
        finally:
            ended.set()

    async def main() -> None:
        nonlocal ended
        ended = asyncio.Event()
        async with serving(handle) as at:
            with await at.connect():
                while not any(stream._choked for stream in at.server.connections):
                    await asyncio.sleep(0)
                assert at.server.abort() == 1
                await at.server.wait_idle()
        assert ended.is_set()

    ended: asyncio.Event
    run(main())


def test_the_logger_is_the_documented_one() -> None:
    assert handler.logger.name == "neverblock.server"
