"""Sockets that were opened before this process began: systemd's socket activation, and its like.

The protocol is that of sd_listen_fds(3): LISTEN_FDS descriptors from number 3 on, meant for the
process LISTEN_PID, with the names LISTEN_FDNAMES. The variables are taken out of the environment
once they are read, so that no child takes what is not meant for it.

Such a socket is this process's from then on; the file of a Unix one stays whose it was.
"""

import os
import socket
from collections.abc import MutableMapping, Sequence
from typing import NamedTuple

from neverblock.errors import BindError
from neverblock.servers.listen.addresses import address_text
from neverblock.servers.listen.bind import Bind
from neverblock.servers.listen.listener import Listener
from neverblock.servers.listen.tcp import set_options
from neverblock.servers.settings import Settings

#: The number of the first (SD_LISTEN_FDS_START).
FIRST = 3

VARIABLES = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")

FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class Passed(NamedTuple):
    """A socket that this process was given."""

    descriptor: int
    name: str


_passed: list[Passed] | None = None


def passed() -> list[Passed]:
    """What this process was given. Raises BindError for variables that make no sense."""
    global _passed
    if _passed is None:
        _passed = []
        _passed = take(os.environ)
    return _passed


def take(environment: MutableMapping[str, str]) -> list[Passed]:
    """The same from variables, which are removed."""
    pid, _, count, names = (environment.pop(name, "") for name in VARIABLES)
    if pid != str(os.getpid()) or not count:
        return []
    if not count.isdecimal():
        raise BindError("fd://", f"LISTEN_FDS is {count!r}, which is no number of sockets")
    descriptors = range(FIRST, FIRST + int(count))
    named = dict(zip(descriptors, names.split(":"), strict=False))
    for descriptor in descriptors:
        try:
            os.set_inheritable(descriptor, False)
        except OSError as error:
            raise not_there(f"fd://{descriptor}", error) from None
    return [Passed(descriptor, named.get(descriptor) or "unknown") for descriptor in descriptors]


def expand(urls: Sequence[str]) -> list[str]:
    """The same with a name of several sockets in the place of each of them. Raises BindError."""
    expanded: list[str] = []
    for url in urls:
        bind = Bind.parse(url)
        if bind.scheme != "fd" or bind.descriptor.isdecimal():
            expanded.append(url)
            continue
        found = [each for each in passed() if each.name == bind.descriptor]
        if not found:
            names = ", ".join(dict.fromkeys(each.name for each in passed())) or "none at all"
            raise BindError(url, f"no socket of that name was passed on; there is {names}")
        expanded += [f"fd://{each.descriptor}" for each in found]
    return expanded


def unnamed(urls: Sequence[str]) -> list[Passed]:
    """What was given, where anybody asked, and is in none of the URLs."""
    return [each for each in _passed or () if f"fd://{each.descriptor}" not in urls]


def adopt(bind: Bind, settings: Settings) -> Listener:
    """Serve on a descriptor that listens already. Raises BindError, and leaves it as it is then.

    Its backlog, its mode and whether it is IPv6 alone stay as whoever opened it chose.
    """
    sock = take_over(bind)
    try:
        sock.set_inheritable(False)
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            return Listener(Bind("unix", path=address_text(sock.getsockname())), [sock])
        set_options(sock, settings)
        host, port = sock.getsockname()[:2]
        return Listener(Bind("tcp", host, port), [sock])
    except BaseException:
        sock.detach()
        raise


def take_over(bind: Bind) -> socket.socket:
    """The socket of a descriptor, if it is one that can be served. Raises BindError."""
    passed()  # The variables shall be gone, too, where a number was named.
    try:
        sock = socket.socket(fileno=int(bind.descriptor))
    except (OSError, OverflowError) as error:
        raise not_there(bind.url, error) from None
    try:
        if sock.type != socket.SOCK_STREAM or sock.family not in FAMILIES:
            raise BindError(bind.url, "it is no stream socket; pass on one (ListenStream=)")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise BindError(bind.url, "it does not listen; pass on one that does (Accept=no)")
    except BaseException:
        sock.detach()
        raise
    return sock


def not_there(url: str, error: Exception) -> BindError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return BindError(url, f"no socket was passed on as that ({reason}); see systemd.socket(5)")
