"""From what the kernel says of a thread to why it is stuck."""

import os
from typing import Any, Final

from neverblock.watch.stall import Cause

#: System calls that wait for nothing but time, or for a process.
SLEEPS: Final = {
    "clock_nanosleep": "",
    "nanosleep": "",
    "pause": "",
    "rt_sigtimedwait": "for a signal",
    "wait4": "for a child process",
    "waitid": "for a child process",
}
#: With nothing to wait for, these are sleeps; the argument that says how much there is.
POLLS: Final = {"poll": 1, "ppoll": 1, "select": 0, "pselect6": 0, "epoll_wait": 2}
LOCKS: Final = {"futex", "flock", "semtimedop"}
#: Locks of files, among fcntl(2)'s commands: F_SETLKW, F_OFD_SETLKW.
LOCK_COMMANDS: Final = {7, 38}
#: The first argument is the descriptor.
ON_DESCRIPTOR: Final = {
    "read", "readv", "pread64", "write", "writev", "pwrite64", "recvfrom", "recvmsg", "sendto",
    "sendmsg", "accept", "accept4", "connect", "fsync", "fdatasync", "ioctl", "flock", "fcntl",
    "getdents64", "fstat",
}  # fmt: skip

#: Half of the time says what it is.
MOST: Final = 0.5
#: A thread that runs Python bytecode gives the GIL up after this: sys.getswitchinterval().
PATIENT: Final = 0.002


def classify(event: dict[str, Any]) -> tuple[Cause, str]:
    """Cause and detail of an event of the sentinel's."""
    watched = max(event["at"] - event["began"], 1e-6)
    released = "GIL held" if event["told"] else "GIL released"
    if event["queued"] / watched >= MOST:
        return Cause.NOT_SCHEDULED, f"{event['queued'] / watched:.0%} of the time ready to run"
    if event["collecting"]:
        return Cause.COLLECTING, ""
    if (event["cpu"] + event["queued"]) / watched >= MOST:
        if event["told"]:
            return Cause.GIL_HELD, ""
        return Cause.COMPUTING, released if event["gil_wait"] < PATIENT else ""
    if event["on_gil"]:
        return Cause.GIL, ""
    call = event["call"]
    if event["faulting"]:
        return Cause.IO, "a page of memory is read in"
    if call is None:
        if event["in_call"]:
            return Cause.IO, f"in a system call, {released}"
        return Cause.UNKNOWN, ""
    arguments = event["arguments"]
    if call in SLEEPS:
        return Cause.SLEEPING, " ".join(
            filter(None, [f"in {call}", SLEEPS[call]])
        ) + f", {released}"
    if call in POLLS and arguments[POLLS[call]] == 0:
        return Cause.SLEEPING, f"in {call}, {released}"
    if call in LOCKS or (call == "fcntl" and arguments[1] in LOCK_COMMANDS):
        return Cause.LOCK, f"in {call}, {released}"
    what = target(arguments[0]) if call in ON_DESCRIPTOR else ""
    return Cause.IO, " ".join(filter(None, [f"in {call}", what])) + f", {released}"


def target(descriptor: int) -> str:
    """What a descriptor is, for people."""
    try:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""
    kind = name.partition(":")[0]
    return f"on a {kind}" if kind in ("socket", "pipe") else f"on {name}"
