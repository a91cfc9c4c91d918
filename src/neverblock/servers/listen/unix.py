"""Listening on the path of a Unix socket.

A path is taken over only from a server that is gone; it is looked at and changed under a lock on
its directory. Nobody can connect before the socket's file has the mode that was asked for.
"""

import errno
import os
import socket
import stat
import sys
from contextlib import suppress

from neverblock.errors import BindError
from neverblock.servers.listen.bind import Bind
from neverblock.servers.listen.files import locked
from neverblock.servers.listen.listener import Listener
from neverblock.servers.settings import Settings

#: Bytes that fit into an address, without the zero byte at its end (unix(7)).
LONGEST = 107 if sys.platform.startswith("linux") else 103


def listen_unix(bind: Bind, settings: Settings) -> Listener:
    check_length(bind)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound = False
    try:
        with locked(os.path.dirname(bind.path)):
            remove_stale(bind)
            try:
                sock.bind(bind.path)
                bound = True
                if settings.unix_mode is not None:
                    # Not by the umask, which the process's other threads would feel; until
                    # listen(2) every connection is refused.
                    os.chmod(bind.path, settings.unix_mode)
                sock.setblocking(False)
                # Still locked: a socket that is bound and does not listen looks like a stale one.
                sock.listen(settings.backlog)
                return Listener(bind, [sock], owns_file=True)
            except BaseException:
                if bound:
                    with suppress(OSError):
                        os.unlink(bind.path)
                raise
    except BaseException:
        sock.close()
        raise


def check_length(bind: Bind) -> None:
    length = len(os.fsencode(bind.path))
    if length > LONGEST:
        raise BindError(
            bind.url,
            f"the path has {length} bytes, and an address holds {LONGEST}; choose a shorter path",
        )


def remove_stale(bind: Bind) -> None:
    """Remove the socket file of a server that is gone. Raises BindError for anything else."""
    if not holds_socket(bind):
        return
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


def holds_socket(bind: Bind) -> bool:
    """Whether a socket's file is there. Raises BindError for a file of another kind."""
    try:
        mode = os.lstat(bind.path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise BindError(
            bind.url,
            "there is a file that is not a socket; remove it or choose another path",
            errno.EADDRINUSE,
        )
    return True
