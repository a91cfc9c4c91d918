"""The system calls of a server, counted by perf(1) in a load of their own: it slows them down."""

import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from neverblock.lab.server import Server

#: Tasks that perf is asked to follow at most.
FOLLOWED: Final = 200
#: Seconds until perf counts, and until it has told.
PATIENCE: Final = 10.0


def system_calls(server: Server, load: Callable[[], int]) -> float | None:
    """How many it makes for a request, while ``load`` lets it answer some and tells how many.

    None where they cannot be counted: no perf, no permission, too many threads to follow.
    """
    if shutil.which("perf") is None or server.tree.counts().threads > FOLLOWED:
        return None
    with counting(server) as perf:
        assert perf.stderr is not None
        # The first count of an interval tells that it has begun; anything else that it cannot.
        if not select.select([perf.stderr], [], [], PATIENCE)[0]:
            return None
        first = perf.stderr.readline()
        if count(first) is None:
            return None
        requests = load()
        with suppress(ProcessLookupError):
            perf.send_signal(signal.SIGINT)
        try:
            _, told = perf.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return None
    calls = sum(count(line) or 0.0 for line in told.splitlines())
    return calls / requests if requests and calls else None


@contextmanager
def counting(server: Server) -> Iterator["subprocess.Popen[str]"]:
    pids = ",".join(map(str, server.tree.pids()))
    with subprocess.Popen(
        ["perf", "stat", "-x", ",", "-I", "20", "-e", "raw_syscalls:sys_enter", "-p", pids],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as perf:
        try:
            yield perf
        finally:
            perf.kill()


def count(line: str) -> float | None:
    """That of an interval; None where there is none."""
    _, found, *_ = [*line.split(","), ""]
    try:
        return float(found)
    except ValueError:
        return None
