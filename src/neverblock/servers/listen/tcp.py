"""Listening on TCP addresses: those of a host name, or every one, all with the same port."""

import errno
import logging
import math
import socket
import sys
from contextlib import ExitStack, suppress
from typing import TypeAlias

from neverblock.errors import BindError
from neverblock.servers.listen.bind import EVERY, Bind
from neverblock.servers.listen.listener import Listener
from neverblock.servers.settings import Settings

logger = logging.getLogger("neverblock.server")

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

#: Every address of this machine. IPv6 first: its sockets would take IPv4 along on some systems.
EVERYWHERE: list[tuple[int, SocketAddress]] = [
    (socket.AF_INET6, ("::", 0, 0, 0)),
    (socket.AF_INET, ("0.0.0.0", 0)),
]
FAMILIES = {int(socket.AF_INET): "IPv4", int(socket.AF_INET6): "IPv6"}

#: What the kernel says of an address or a family that is not here.
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

#: How often a port is sought that is free on each of a bind's addresses.
ATTEMPTS = 64

#: Unanswered questions after which the peer counts as gone, and seconds at most between them.
PROBES = 4
LONGEST_INTERVAL = 75

#: Whether an accepted socket has the options of the one that listened.
INHERITED = sys.platform.startswith(("linux", "freebsd"))


def listen_tcp(bind: Bind, settings: Settings) -> Listener:
    found = addresses(bind)
    attempts = 1 if bind.port or len(found) == 1 else ATTEMPTS
    with ExitStack() as held:
        while True:
            attempts -= 1
            sockets: list[socket.socket] = []
            try:
                return open_all(bind, found, settings, sockets)
            except BaseException as error:
                # Held until the end, that the kernel chooses another port than one that it chose
                # by the first address and somebody has on another.
                for sock in sockets:
                    held.enter_context(sock)
                in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
                if not in_use or attempts == 0:
                    raise


def addresses(bind: Bind) -> list[tuple[int, SocketAddress]]:
    """Family and address of each, without a port. Raises BindError."""
    if bind.host == EVERY:
        return EVERYWHERE
    try:
        found = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else str(error)
        raise BindError(
            bind.url, f"host {bind.host!r} cannot be resolved ({reason}); write an address"
        ) from None
    return list(
        dict.fromkeys(
            (int(family), (str(address[0]), 0, *address[2:])) for family, _, _, _, address in found
        )
    )


def open_all(
    bind: Bind,
    found: list[tuple[int, SocketAddress]],
    settings: Settings,
    sockets: list[socket.socket],
) -> Listener:
    """Adds to ``sockets``, which are the caller's to close where this raises."""
    missing: list[tuple[int, OSError]] = []
    port = bind.port
    for family, address in found:
        try:
            sock = open_one(family, (address[0], port, *address[2:]), settings)
        except OSError as error:
            # One address of several may be of a family that is off here.
            if error.errno not in ABSENT:
                raise
            missing.append((family, error))
        else:
            sockets.append(sock)
            port = sock.getsockname()[1]
    if not sockets:
        raise missing[0][1]
    for sock in sockets:
        sock.listen(settings.backlog)
    if bind.host == EVERY:
        for family, reason in missing:
            logger.warning(
                "%s: no %s (%s), serving the other addresses alone",
                bind.url,
                FAMILIES[family],
                reason.strerror,
            )
    return Listener(Bind(bind.scheme, bind.host, port), sockets)


def open_one(family: int, address: tuple[object, ...], settings: Settings) -> socket.socket:
    """Bound, not listening yet."""
    # Loops turn Nagle's algorithm off only on sockets that name their protocol.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        # A port is free again while connections of the last server linger in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        set_options(sock, settings)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def set_options(sock: socket.socket, settings: Settings) -> None:
    """What connections shall have, on a socket that listens for them or on one of them.

    A peer that says nothing for ``keepalive`` seconds is asked whether it is still there, and is
    given up after four questions a quarter of that time apart, 75 seconds at most (tcp(7)).
    """
    seconds = settings.keepalive
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, settings.nodelay)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, seconds > 0)
    if seconds > 0:
        interval = min(max(1, math.ceil(seconds / PROBES)), LONGEST_INTERVAL)
        for names, value in (
            (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), math.ceil(seconds)),  # The latter on macOS.
            (("TCP_KEEPINTVL",), interval),
            (("TCP_KEEPCNT",), PROBES),
        ):
            for name in names:
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
                    break


def set_accepted(sock: socket.socket, settings: Settings) -> None:
    """The same for an accepted connection, where the system or its loop did otherwise."""
    if not (INHERITED and settings.nodelay) and sock.family != socket.AF_UNIX:
        with suppress(OSError):  # Not connected any more.
            set_options(sock, settings)
