"""Addresses for people: what a peer is called in logs, and what ``Stream.peer`` says."""

import os
import socket
import struct
from typing import TypeAlias

from neverblock.servers.listen.bind import bracketed

#: What the socket module calls an address: of IPv4, of IPv6, of a Unix socket.
Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str | bytes | None


def address_text(address: Address) -> str:
    """An address for people: ``127.0.0.1:7000``, ``[::1]:7000``, ``/run/app.sock``."""
    match address:
        case (str(host), int(port), *_):
            return f"{bracketed(host)}:{port}"
        case bytes():  # Linux's abstract names begin with a zero byte.
            return os.fsdecode(address.replace(b"\0", b"@"))
        case str():
            return address or "unix"
    return "unknown"


def peer_text(sock: socket.socket, scheme: str, address: Address) -> str:
    """Who connected, for people. The kernel tells it of a Unix socket only while it is open."""
    return unix_peer_text(sock) if scheme == "unix" else address_text(address)


def unix_peer_text(sock: socket.socket) -> str:
    """Who is at the other end of a Unix socket; such clients seldom have an address."""
    if not hasattr(socket, "SO_PEERCRED"):
        return "unix"
    form = "3i"  # struct ucred: pid, uid, gid (unix(7))
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form))
    except OSError:
        return "unix"
    return f"unix (pid {struct.unpack(form, raw)[0]})"
