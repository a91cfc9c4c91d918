"""The echo servers under measurement, one process each.

    python -m bench.server --loop LOOP --kind protocol|streams|sock --bind tcp:0|unix:PATH --core N

Prints "listening ADDRESS" once it accepts. A kind is one coroutine function in `KINDS` that starts
the server and returns its address. A line on standard input collects garbage and is answered by a
line, so that memory is read at the same point for every loop; its end ends the process.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import socket
import sys

from bench.errors import Unsupported
from bench.loops import factory

BACKLOG = 4096
READ_SIZE = 64 * 1024
HOST = "127.0.0.1"

# What must live as long as the process: servers and the tasks of `sock`.
alive: set[object] = set()


class EchoProtocol(asyncio.Protocol):
    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(READ_SIZE):
            writer.write(data)
            del data  # else the last message is held while waiting, and counts as the loop's
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def start_protocol(scheme: str, place: str) -> str:
    loop = asyncio.get_running_loop()
    if scheme == "unix":
        server = await loop.create_unix_server(EchoProtocol, place, backlog=BACKLOG)
    else:
        server = await loop.create_server(EchoProtocol, HOST, int(place), backlog=BACKLOG)
    return keep(server)


async def start_streams(scheme: str, place: str) -> str:
    if scheme == "unix":
        server = await asyncio.start_unix_server(echo_stream, place, backlog=BACKLOG)
    else:
        server = await asyncio.start_server(echo_stream, HOST, int(place), backlog=BACKLOG)
    return keep(server)


async def start_sock(scheme: str, place: str) -> str:
    loop = asyncio.get_running_loop()
    if scheme == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(place)
    else:
        listener = socket.socket()
        listener.bind((HOST, int(place)))
    listener.listen(BACKLOG)
    listener.setblocking(False)

    async def echo(connection: socket.socket) -> None:
        with connection:
            while data := await loop.sock_recv(connection, READ_SIZE):
                await loop.sock_sendall(connection, data)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            if scheme != "unix":
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.create_task(echo(connection))
            alive.add(task)
            task.add_done_callback(alive.discard)

    alive.add(asyncio.create_task(accept()))
    return address_of(listener)


KINDS = {"protocol": start_protocol, "streams": start_streams, "sock": start_sock}


def keep(server: asyncio.Server) -> str:
    alive.add(server)
    return address_of(server.sockets[0])


def address_of(listener: socket.socket) -> str:
    name = listener.getsockname()
    return f"unix:{name}" if isinstance(name, str) else f"tcp:{name[1]}"


def settle_heap() -> None:
    """Frees one large block, as any larger program has done at some time.

    Until then glibc serves a receive buffer of 256 KiB by a mapping of its own, made and unmade
    for every message: asyncio's echo costs three times as much in a process that did nothing else
    (mallopt(3), M_MMAP_THRESHOLD).
    """
    bytes(8 * 1024 * 1024)


def answer_collections() -> None:
    """One line for each; in the loop, since a second thread makes every system call dearer."""
    asked = os.read(sys.stdin.fileno(), 4096)
    if not asked:
        os._exit(0)
    for _ in range(asked.count(b"\n")):
        gc.collect()
        print("collected", flush=True)


async def serve(kind: str, bind: str) -> None:
    scheme, _, place = bind.partition(":")
    address = await KINDS[kind](scheme, place)
    print(f"listening {address}", flush=True)
    loop = asyncio.get_running_loop()
    os.set_blocking(sys.stdin.fileno(), False)
    loop.add_reader(sys.stdin.fileno(), answer_collections)
    await loop.create_future()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", required=True)
    parser.add_argument("--kind", required=True, choices=KINDS)
    parser.add_argument("--bind", default="tcp:0")
    parser.add_argument("--core", type=int, default=-1)
    options = parser.parse_args()
    if options.core >= 0:
        os.sched_setaffinity(0, {options.core})
    settle_heap()
    try:
        with asyncio.Runner(loop_factory=factory(options.loop), debug=False) as runner:
            runner.run(serve(options.kind, options.bind))
    except Unsupported as error:
        print(f"unsupported {error}", flush=True)
    except (NotImplementedError, AttributeError) as error:
        print(f"unsupported it raises {error!r}", flush=True)


if __name__ == "__main__":
    main()
