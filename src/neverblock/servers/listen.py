"""Binding: ``tcp://host:port`` and ``unix:///path``, to sockets that listen.

A Unix path is taken over only from a server that is gone, and given back only if it is still
ours; both are looked at and changed under a lock on the directory.
"""

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self, TypeAlias
from urllib.parse import urlsplit

from neverblock.errors import BindError

#: What the socket module calls an address: of IPv4, of IPv6, of a Unix socket.
Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str | bytes | None


@dataclass(frozen=True)
class Bind:
    """Where to listen."""

    scheme: str
    """``"tcp"`` or ``"unix"``."""
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> Self:
        """From ``tcp://127.0.0.1:7000``, ``tcp://[::1]:7000``, ``unix:///run/app.sock``.

        Raises BindError.
        """
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in ("tcp", "unix"):
            raise BindError(url, "write tcp://HOST:PORT or unix:///PATH")
        if scheme == "unix":
            if not rest.startswith("/") or rest.endswith("/"):
                raise BindError(url, "write an absolute path, like unix:///run/app.sock")
            return cls(scheme, path=rest)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise BindError(url, f"{error}; write tcp://HOST:PORT") from None
        if not host:
            raise BindError(url, "no host; write tcp://0.0.0.0:PORT for every IPv4 address")
        if port is None:
            raise BindError(url, f"no port; write tcp://{bracketed(host)}:PORT, 0 for any free one")
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            raise BindError(url, f"only a host and a port; write tcp://{bracketed(host)}:{port}")
        return cls(scheme, host=host, port=port)

    @property
    def url(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        return f"tcp://{bracketed(self.host)}:{self.port}"


class Listener:
    """The sockets of one bind; closing them is the caller's: ``close``, or ``with``."""

    def __init__(self, bind: Bind, sockets: list[socket.socket]) -> None:
        self.bind = bind
        self.sockets = sockets
        self._file = identity(bind.path) if bind.path else None

    @property
    def url(self) -> str:
        """The bind's URL, with the port that the kernel chose for port 0."""
        return self.bind.url

    def close(self) -> None:
        """Close the sockets, and remove the file of a Unix one unless it is somebody else's now."""
        for sock in self.sockets:
            sock.close()
        if self._file is not None:
            with suppress(OSError), locked(os.path.dirname(self.bind.path)):
                # The directory may be gone, or closed to us by now: then so is the file.
                if identity(self.bind.path) == self._file:
                    os.unlink(self.bind.path)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def listen(url: str, backlog: int = 1024) -> Listener:
    """Listen there, with room for ``backlog`` connections not yet accepted.

    A host name listens on each of its addresses, all with the same port. Raises BindError.
    """
    bind = Bind.parse(url)
    try:
        return listen_unix(bind, backlog) if bind.scheme == "unix" else listen_tcp(bind, backlog)
    except BindError:
        raise
    except OSError as error:
        raise BindError(url, explanation(bind, error), error.errno) from None


def listen_tcp(bind: Bind, backlog: int) -> Listener:
    try:
        found = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else str(error)
        raise BindError(
            bind.url, f"host {bind.host!r} cannot be resolved ({reason}); write an address"
        ) from None
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                sock = open_tcp(family, (address[0], bind.port, *address[2:]), backlog)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error  # One address of a name may be of a family that is off here.
            else:
                sockets.append(sock)
                bind = Bind(bind.scheme, bind.host, sock.getsockname()[1])
        if not sockets and missing is not None:
            raise missing
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return Listener(bind, sockets)


def open_tcp(family: int, address: tuple[object, ...], backlog: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only on sockets that name their protocol.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        # A port is free again while connections of the last server linger in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_unix(bind: Bind, backlog: int) -> Listener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with locked(os.path.dirname(bind.path)):
            remove_stale(bind)
            sock.bind(bind.path)
            sock.setblocking(False)
            # Still locked: a socket that is bound and does not listen looks like a stale one.
            sock.listen(backlog)
            return Listener(bind, [sock])
    except BaseException:
        sock.close()
        raise


def remove_stale(bind: Bind) -> None:
    """Remove the socket file of a server that is gone. Raises BindError for anything else."""
    try:
        mode = os.lstat(bind.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BindError(
            bind.url,
            "there is a file that is not a socket; remove it or choose another path",
            errno.EADDRINUSE,
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # A server with a full queue would keep us waiting.
        try:
            probe.connect(bind.path)
        except ConnectionRefusedError:
            os.unlink(bind.path)
            return
        except BlockingIOError:
            pass
    raise BindError(
        bind.url, "another server listens there; stop it or choose another path", errno.EADDRINUSE
    )


@contextmanager
def locked(directory: str) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def identity(path: str) -> tuple[int, int] | None:
    """What tells a file from another that took its name."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def explanation(bind: Bind, error: OSError) -> str:
    """What went wrong, and the cure."""
    where = f"port {bind.port}" if bind.scheme == "tcp" else bind.path
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where} is in use; stop the other server or choose another port (0: any)"
        case errno.EADDRNOTAVAIL:
            return f"{bind.host} is not an address of this machine; choose one (see `ip address`)"
        case errno.EACCES | errno.EPERM if bind.scheme == "tcp":
            return f"{where} needs a privilege; choose a port from 1024 on"
        case errno.EACCES | errno.EPERM:
            return "no permission there; choose a directory you may write to"
        case errno.ENOENT | errno.ENOTDIR:
            return f"no directory {os.path.dirname(bind.path)}; create it"
        case None:
            # Python's own check of the length, before the kernel sees the path.
            return f"{error}; choose a shorter path"
    return f"{error.strerror}; choose another address"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


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
