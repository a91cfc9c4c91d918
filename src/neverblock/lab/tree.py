"""The processes of a server as proc(5) shows them: it, its descendants, every thread of them.

- Counters of processes that ended are gone with them, and so are a thread's context switches: a
  difference between two readings is right while none ends. ``cpu_of_all`` counts those that were
  waited for.
- Any process may end between two looks; it then counts nothing.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neverblock.errors import LabError

TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGESIZE")


@dataclass(frozen=True, slots=True)
class Counts:
    """What a tree had used at one moment (seconds of the monotonic clock)."""

    at: float
    cpu: float
    """Seconds, exact, with threads that ended (clock_getcpuclockid(3))."""
    user: float
    """Seconds, in steps of a clock tick for each process (/proc/PID/stat)."""
    system: float
    voluntary: int
    """Context switches because there was nothing to do, or something to wait for."""
    involuntary: int
    """Context switches because somebody else had to run."""
    processes: int
    threads: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes in memory."""

    rss: int
    """Resident, what is shared counted in each process (/proc/PID/statm)."""
    pss: int
    """Of what n processes share, whoever they are, an n-th in each (/proc/PID/smaps_rollup)."""
    anonymous: int
    """That part of it which is no file's: forked processes share it, and no others."""
    tables: int
    """What the kernel keeps to map it (VmPTE); in neither of the others."""


class Tree:
    """A process and its descendants."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pids(self) -> list[int]:
        found = [self.pid]
        for pid in found:  # It grows meanwhile: breadth first.
            for task in tasks(pid):
                found += map(int, read(task / "children").split())
        return found

    def counts(self) -> Counts:
        cpu = 0.0
        voluntary = involuntary = threads = user = system = 0
        at = time.monotonic()
        pids = self.pids()
        for pid in pids:
            cpu += cpu_of(pid)
            fields = read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
            if fields:
                user += int(fields[11])
                system += int(fields[12])
            for task in tasks(pid):
                threads += 1
                for line in read(task / "status").splitlines():
                    name, _, value = line.partition(":")
                    if name == "voluntary_ctxt_switches":
                        voluntary += int(value)
                    elif name == "nonvoluntary_ctxt_switches":
                        involuntary += int(value)
        return Counts(
            at=(at + time.monotonic()) / 2,
            cpu=cpu,
            user=user / TICKS,
            system=system / TICKS,
            voluntary=voluntary,
            involuntary=involuntary,
            processes=len(pids),
            threads=threads,
        )

    def cpu_of_all(self) -> float:
        """Seconds of the tree, with what has ended and was waited for (proc_pid_stat(5))."""
        ticks = 0
        for pid in self.pids():
            fields = read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / TICKS

    def memory(self) -> Memory:
        rss = pss = anonymous = tables = 0
        for pid in self.pids():
            rss += int((read(Path(f"/proc/{pid}/statm")).split() or "00")[1]) * PAGE
            rollup = kibs(f"/proc/{pid}/smaps_rollup")
            pss += rollup.get("Pss", 0)
            anonymous += rollup.get("Pss_Anon", 0) + rollup.get("Pss_Shmem", 0)
            tables += kibs(f"/proc/{pid}/status").get("VmPTE", 0)
        return Memory(rss, pss * 1024, anonymous * 1024, tables * 1024)

    def wait_rest(self, timeout: float = 30.0) -> None:
        """Until it used no processor time for a while: it dealt with all it was given.

        Raises LabError where it does not come to rest.
        """
        before = -1.0

        def unchanged() -> bool:
            nonlocal before
            before, last = self.counts().cpu, before
            # A timer of its own may run now and then.
            return before - last < 0.001

        wait_for(unchanged, 0.1, timeout, "the server does not come to rest")

    def wait_processes(self, wanted: int, timeout: float = 30.0) -> None:
        """Until there are no more than so many. Raises LabError."""
        wait_for(
            lambda: len(self.pids()) <= wanted,
            0.02,
            timeout,
            "processes are left whose clients are gone",
        )


def wait_for(done: Callable[[], bool], pause: float, timeout: float, failure: str) -> None:
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise LabError(f"{failure}, after {timeout:g} s")
        time.sleep(pause)


def tasks(pid: int) -> list[Path]:
    """The threads of a process; none where it has ended."""
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_of(pid: int) -> float:
    """Seconds that all threads of a process have run; 0 where it has ended."""
    try:
        # What clock_getcpuclockid(3) makes of it: CPUCLOCK_SCHED of the whole process.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def read(path: Path) -> str:
    """A file of proc(5); empty where its process has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def kibs(path: str) -> dict[str, int]:
    """The values of a file of proc(5) that are in KiB, by name."""
    lines = (line.split() for line in read(Path(path)).splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[2:] == ["kB"]}


def available() -> int:
    """Bytes that programs may still take without swapping (MemAvailable)."""
    return 1024 * kibs("/proc/meminfo").get("MemAvailable", 0)
