"""Listening on binds of every kind, and what to do where that cannot be had."""

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from neverblock.errors import BindError
from neverblock.servers.listen.activation import adopt, expand, passed, unnamed
from neverblock.servers.listen.bind import Bind
from neverblock.servers.listen.listener import Listener
from neverblock.servers.listen.tcp import listen_tcp
from neverblock.servers.listen.unix import listen_unix
from neverblock.servers.settings import Settings

logger = logging.getLogger("neverblock.server")

#: Where to listen if nobody says.
DEFAULT = "tcp://127.0.0.1:7000"


def choose(urls: Sequence[str], *, later: bool = False) -> list[str]:
    """Where to listen for a process of its own: there, or on what it was given, or on DEFAULT.

    ``later``: who will listen is another process, which may be given what this one was not; where
    this one was given nothing, names are left as they are. Raises BindError.
    """
    given = [f"fd://{each.descriptor}" for each in passed()]
    if later and not given:
        return list(urls) or [DEFAULT]
    return expand(urls) or given or [DEFAULT]


@contextmanager
def opened(urls: Sequence[str], settings: Settings) -> Iterator[list[Listener]]:
    """Listen on all of them, in their order, for as long as this lasts. Raises BindError."""
    urls = expand(urls)
    # Those that are open already come first: another could get the number of one that is not.
    order = sorted(range(len(urls)), key=lambda index: not urls[index].startswith("fd://"))
    found: dict[int, Listener] = {}
    with ExitStack() as listeners:
        for index in order:
            url = urls[index]
            if url.startswith("fd://") and url in (urls[other] for other in found):
                raise BindError(url, "it is named twice; name it once")
            found[index] = listeners.enter_context(listen(url, settings))
        if left := unnamed(urls):
            logger.warning(
                "not served, of the sockets that were passed on: %s; name each with --bind "
                "fd://NAME, or leave --bind out for all of them",
                ", ".join(f"fd://{each.descriptor} ({each.name})" for each in left),
            )
        yield [found[index] for index in range(len(urls))]


def listen(url: str, settings: Settings | None = None) -> Listener:
    """Listen there. ``settings`` say how: backlog, unix_mode, nodelay, keepalive.

    A host name listens on each of its addresses, all with the same port. Raises BindError.
    """
    settings = settings or Settings()
    bind = Bind.parse(url)
    try:
        match bind.scheme:
            case "unix":
                return listen_unix(bind, settings)
            case "fd":
                return adopt(only(url), settings)
        return listen_tcp(bind, settings)
    except BindError:
        raise
    except OSError as error:
        raise BindError(url, explanation(bind, error), error.errno) from None


def only(url: str) -> Bind:
    """The one descriptor that a ``fd://`` URL names."""
    one, *more = expand([url])
    if more:
        raise BindError(url, f"several have that name; choose of {one}, {', '.join(more)}")
    return Bind.parse(one)


def explanation(bind: Bind, error: OSError) -> str:
    """What went wrong, and the cure."""
    where = f"port {bind.port}" if bind.scheme == "tcp" else bind.path
    match error.errno:
        case errno.EADDRINUSE if bind.scheme == "tcp" and bind.port == 0:
            return "no port was found that is free on every address; choose one"
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
    return f"{error.strerror}; choose another address"
