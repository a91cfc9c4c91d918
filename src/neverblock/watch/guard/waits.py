"""Whether a call would wait: functions of ``(self, args, kwargs)`` as the call was made.

- A call that is wrong is let through: it raises its own error.
- ``self`` is the module of a module's function, and None where an audit event tells of the call:
  then ``args`` are the event's.
"""

import fcntl
import os
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any, Final, TypeAlias

Waits: TypeAlias = Callable[[Any, tuple[Any, ...], dict[str, Any]], bool]

#: Seconds that the program may wait for a lock or a thread: who has it may only be waiting for the
#: GIL, for a few turns (sys.getswitchinterval), or for a CPU on a busy machine.
GRACE: Final = 0.02

#: The descriptors of standard output and error: printing is allowed.
STANDARD = (1, 2)

LOCKING = {getattr(fcntl, name) for name in ("F_SETLKW", "F_OFD_SETLKW") if hasattr(fcntl, name)}


def always(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return True


def given(args: tuple[Any, ...], kwargs: dict[str, Any], at: int, name: str, default: Any) -> Any:
    return args[at] if len(args) > at else kwargs.get(name, default)


def blocks(descriptor: Any) -> bool:
    """Whether a descriptor, or what has one, is without O_NONBLOCK; an invalid one is not."""
    try:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        return os.get_blocking(number)
    except (AttributeError, OSError, TypeError, ValueError, OverflowError):
        return False


def descriptor(*names: str) -> Waits:
    """The first argument is a descriptor; ``names`` are what it may be given by."""

    def waits(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        number = args[0] if args else next((kwargs[each] for each in names if each in kwargs), None)
        return blocks(number)

    return waits


def timeout(at: int, name: str = "timeout") -> Waits:
    """It waits unless that argument is 0."""

    def waits(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        return bool(given(args, kwargs, at, name, None) != 0)

    return waits


def unless(flag: int, at: int) -> Waits:
    """It waits without that flag."""

    def waits(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        flags = given(args, kwargs, at, "options", 0)
        return isinstance(flags, int) and not flags & flag

    return waits


def opening(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Event ``open``: path, mode, flags. A descriptor is open already, /dev/null is no device."""
    path = args[0]
    if isinstance(path, int):
        return False
    try:
        return os.fsencode(path) != os.fsencode(os.devnull)
    except (TypeError, ValueError):  # no path, or one that cannot be encoded
        return False


def without_mode(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Event ``open``: it is os.open's, which has flags alone."""
    return args[1] is None


def of_descriptor(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """An event whose first argument is a descriptor, not a path."""
    return isinstance(args[0], int)


def of_relative_path(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """abspath(path): asks for the current directory; an absolute path is only written anew."""
    try:
        return not os.path.isabs(args[0])
    except TypeError:  # no path
        return False


def file_status(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """fstat(2): of a file, which may be a network away; not of a socket or a pipe."""
    try:
        mode = os.fstat(*args, **kwargs).st_mode
    except (OSError, TypeError, ValueError, OverflowError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def is_socket(path: Any) -> bool:
    """Whether a Unix socket is at that path."""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except (OSError, TypeError, ValueError):
        return False


def reading(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """A file object of io reads: one with a descriptor that blocks. BytesIO has none."""
    return not from_buffer(args) and blocks(self)


def writing(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """A file object of io writes; to standard output and error it may, as to a terminal."""
    if from_buffer(args) or not blocks(self):
        return False
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None and (self is stream or self is getattr(stream, "buffer", None)):
            return False
    return self.fileno() not in STANDARD and not self.isatty()


def from_buffer(args: tuple[Any, ...]) -> bool:
    """Whether a buffered file calls its raw one: it lends its own memory, which no object owns.

    What it was called for was asked about already.
    """
    return bool(args) and isinstance(args[0], memoryview) and args[0].obj is None


def of_socket(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """An event whose first argument is a socket."""
    return bool(args[0].gettimeout() != 0)


def unless_told(at: int) -> Waits:
    """A socket that blocks: unless that argument, ``flags``, has MSG_DONTWAIT.

    Where a timeout is set it waits all the same: Python asks poll(2) first.
    """

    def waits(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        flags = given(args, kwargs, at, "flags", 0)
        told = isinstance(flags, int) and flags & socket.MSG_DONTWAIT
        return not told or self.gettimeout() is not None

    return waits


def sending_to(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """sendto(data, address) or sendto(data, flags, address)."""
    return len(args) < 3 or unless_told(1)(self, args, kwargs)


def of_tls(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """TLS over a socket that blocks; over memory, as asyncio has it, it never waits."""
    owner = self.owner
    return isinstance(owner, socket.socket) and owner.gettimeout() != 0


def resolving(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """The first argument is a host's name; numbers are not asked for anywhere."""
    host = args[0]
    if isinstance(host, bytes | bytearray):
        host = bytes(host).decode(errors="replace")
    if not host or not isinstance(host, str):
        return False
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except (OSError, ValueError):
            continue
        return False
    return True


def naming(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """getnameinfo(sockaddr, flags)."""
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    return len(args) < 2 or not isinstance(args[1], int) or args[1] & numeric != numeric


def locking(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Events ``fcntl.flock``, ``fcntl.lockf``: descriptor, operation."""
    operation = args[1]
    return not operation & fcntl.LOCK_NB and bool(operation & (fcntl.LOCK_EX | fcntl.LOCK_SH))


def locking_file(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Event ``os.lockf``: descriptor, command."""
    return bool(args[1] == os.F_LOCK)


def locking_record(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Event ``fcntl.fcntl``: descriptor, command, argument."""
    return args[1] in LOCKING


def empty(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """queue.SimpleQueue.get(block, timeout)."""
    if not given(args, kwargs, 0, "block", True) or given(args, kwargs, 1, "timeout", None) == 0:
        return False
    return bool(self.empty())


def running(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """_thread._ThreadHandle.join(timeout), unless the thread is about to end."""
    if given(args, kwargs, 0, "timeout", None) == 0:
        return False
    self.join(GRACE)
    return not self.is_done()


def waiting_child(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """waitid(idtype, id, options)."""
    return unless(os.WNOHANG, 2)(self, args, kwargs)


def for_signal(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """sigtimedwait(sigset, timeout)."""
    return len(args) < 2 or bool(args[1] != 0)
