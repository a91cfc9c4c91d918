"""Both ends of a connection for tests: socket pairs, and a protocol that keeps a record.

A Recorder holds asyncio to its contract: connection_made first and once, connection_lost last
and once, no data after the end, no flow-control call out of turn. A breach raises in the callback,
which reaches the exception handler and so fails the test.
"""

import asyncio
import socket
import struct
from collections.abc import Callable

# One for all tests: a new one each time would use up the system's free ports.
LISTENER = socket.create_server(("127.0.0.1", 0))


def pair(wire: str) -> tuple[socket.socket, socket.socket]:
    """Two connected blocking sockets, each with a time limit so that no peer hangs a test."""
    if wire == "unix":
        ours, theirs = socket.socketpair()
    else:
        ours = socket.create_connection(LISTENER.getsockname())
        theirs, _ = LISTENER.accept()
    for sock in (ours, theirs):
        sock.settimeout(20)
    return ours, theirs


def small_buffers(*socks: socket.socket) -> None:
    """Less room in the kernel; TCP with less than this waits for timers of its own."""
    for sock in socks:
        room = 4096 if sock.family == socket.AF_UNIX else 32768
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)


def reset(sock: socket.socket) -> None:
    """Close so that the peer is sent a reset, not an end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(min(count - len(data), 1 << 18))
        if not chunk:
            raise EOFError(f"the end after {len(data)} of {count} bytes")
        data += chunk
    return bytes(data)


def read_to_end(sock: socket.socket) -> bytes:
    data = bytearray()
    while chunk := sock.recv(1 << 18):
        data += chunk
    return bytes(data)


def pattern(count: int, seed: int = 0) -> bytes:
    """Bytes in which any two places differ, so that a swap, a gap or a repeat shows."""
    words = range(seed, seed + count // 4 + 1)
    return struct.pack(f">{len(words)}I", *words)[:count]


class Recorder(asyncio.Protocol):
    """`hooks` run after the record is made: by name of the callback, given the protocol."""

    def __init__(self, keep_open: bool = False, **hooks: Callable[..., object]):
        self.calls: list[str] = []
        self.data = bytearray()
        self.transport: asyncio.Transport | None = None
        self.lost_with: list[BaseException | None] = []
        self.paused = False
        self.pauses = 0
        self.keep_open = keep_open
        self.hooks = hooks
        self.waiting: list[asyncio.Future[None]] = []

    def note(self, name: str, *args: object) -> None:
        assert not self.lost_with or name == "connection_lost", f"{name} after connection_lost"
        if name == "connection_made":
            assert not self.calls, f"connection_made after {self.calls}"
        else:
            assert self.calls, f"{name} before connection_made"
        if name != "data_received" or self.calls[-1] != name:
            self.calls.append(name)
        for future in self.waiting:
            if not future.done():
                future.set_result(None)
        self.waiting.clear()
        if name in self.hooks:
            self.hooks[name](self, *args)

    async def until(self, met: Callable[[], object]) -> None:
        while not met():
            future = asyncio.get_running_loop().create_future()
            self.waiting.append(future)
            await future

    async def received(self, count: int) -> bytes:
        await self.until(lambda: len(self.data) >= count)
        return bytes(self.data)

    async def ended(self) -> bytes:
        await self.until(lambda: "eof_received" in self.calls or self.lost_with)
        if self.lost_with and self.lost_with[0] is not None:
            raise self.lost_with[0]
        return bytes(self.data)

    async def lost(self) -> BaseException | None:
        await self.until(lambda: self.lost_with)
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # a second connection_lost would have come by now
        assert len(self.lost_with) == 1
        return self.lost_with[0]

    def connection_made(self, transport):
        self.transport = transport
        self.note("connection_made")

    def data_received(self, data):
        assert type(data) is bytes, type(data)
        assert data, "data_received with no data"
        assert "eof_received" not in self.calls, "data after the end"
        self.data += data
        self.note("data_received", data)

    def eof_received(self):
        assert "eof_received" not in self.calls, "a second eof_received"
        self.note("eof_received")
        return self.keep_open

    def pause_writing(self):
        assert not self.paused, "pause_writing while paused"
        self.paused = True
        self.pauses += 1
        self.note("pause_writing")

    def resume_writing(self):
        assert self.paused, "resume_writing while not paused"
        self.paused = False
        self.note("resume_writing")

    def connection_lost(self, exc):
        assert not self.lost_with, "a second connection_lost"
        self.lost_with.append(exc)
        self.note("connection_lost", exc)


async def open_end(sock: socket.socket, protocol):
    """Give one end to the loop."""
    await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock)
    return protocol


async def accept_end(sock: socket.socket, protocol):
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, sock)
    return protocol
