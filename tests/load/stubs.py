"""Servers that do one thing, in a thread of the test's own."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextmanager
def stub(
    handle: Handle, *, tls: ssl.SSLContext | None = None, path: str | None = None
) -> Iterator[str]:
    """Where it listens: ``127.0.0.1:PORT``, or the path."""
    listening: list[str] = []
    ready = threading.Event()
    over: list[Callable[[], object]] = []

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        handling: set[asyncio.Task[None]] = set()

        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            handling.add(task)
            try:
                await handle(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                if stop.is_set():
                    writer.transport.abort()
                else:
                    writer.close()
                handling.discard(task)

        if path is None:
            server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls)
            host, port = server.sockets[0].getsockname()
            listening.append(f"{host}:{port}")
        else:
            server = await asyncio.start_unix_server(guarded, path)
            listening.append(path)
        over.append(lambda: loop.call_soon_threadsafe(stop.set))
        loop.set_exception_handler(lambda loop, context: None)
        ready.set()
        await stop.wait()
        # What was just accepted comes to its handler first, for which the server has to be open:
        # else its socket would be left to the collector, which finds it in a later test.
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())
        while asyncio.all_tasks() - {asyncio.current_task()}:
            for task in handling:
                task.cancel()
            await asyncio.sleep(0)
        server.close()
        for _ in range(10):  # Transports are told in the next turns.
            await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(60)
    try:
        yield listening[0]
    finally:
        over[0]()
        thread.join()


#: Set when the echo has been asked.
asked = threading.Event()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        asked.set()
        writer.write(data)


def stalling(period: float, stall: float) -> Handle:
    """Echoes, but that all of it stands still for `stall` seconds in every `period`."""
    began: list[float] = []

    def stand_still() -> None:
        time.sleep(stall)
        loop = asyncio.get_running_loop()
        began[0] += period
        loop.call_at(began[0], stand_still)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not began:
            loop = asyncio.get_running_loop()
            began.append(loop.time())
            loop.call_soon(stand_still)
        await echo(reader, writer)

    return handle


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


async def lying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(bytes(byte ^ 1 for byte in data))


async def babbling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data + b"more")


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


def refusing_every(count: int) -> Handle:
    """HTTP, of which one answer in so many is an error."""
    numbers = itertools.count(1)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            status = b"200 OK" if next(numbers) % count else b"503 Service Unavailable"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    return handle


async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the first, and then nothing any more."""
    writer.write(await reader.read(65536))
    await silent(reader, writer)


def saying(text: bytes) -> Handle:
    """Says so for every piece that comes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(text)

    return handle


def saying_once(text: bytes) -> Handle:
    """Says so, and closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(text)
        await writer.drain()

    return handle


def echo_but_the_first(count: int) -> Handle:
    """Closes so many of the first connections, and echoes on the others."""
    seen: list[int] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(1)
        if len(seen) > count:
            await echo(reader, writer)

    return handle
