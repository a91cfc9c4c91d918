"""Options of connected sockets (socket(7), tcp(7))."""

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from typing import Protocol


class HasOptions(Protocol):
    """A socket, or what asyncio shows of one."""

    def setsockopt(self, level: int, name: int, value: int | bytes, /) -> None: ...


def linger(sock: HasOptions, resets: bool) -> None:
    """Whether closing the socket resets its connection (SO_LINGER). TCP's alone can be reset."""
    with suppress(OSError):  # Not connected any more.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", resets, 0))


def acknowledge(sock: HasOptions) -> None:
    """Acknowledge what came now, not with the next answer, which may wait for what the peer holds
    back until then (Nagle's algorithm; TCP_QUICKACK in tcp(7))."""
    if sys.platform == "linux":
        with suppress(OSError):  # Not connected any more, or a Unix socket.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def reset(transport: asyncio.Transport) -> None:
    """Drop a connection and what is unsent, so that its peer sees a reset."""
    sock = transport.get_extra_info("socket")
    if sock is not None:  # Else it is closed.
        linger(sock, True)
    transport.abort()
