"""What the system tells of a server's process (proc(5)): children, threads, descriptors, memory."""

import os
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.servers.serving import PATIENCE


class Holdings(NamedTuple):
    """What a process holds. What ends may still be counted for a moment."""

    children: int
    threads: int
    descriptors: int

    def within(self, other: "Holdings") -> bool:
        """Whether it is no more of anything."""
        return all(mine <= theirs for mine, theirs in zip(self, other, strict=True))


def holdings(pid: int) -> Holdings:
    return Holdings(len(children(pid)), number(pid, "Threads"), len(descriptors(pid)))


def children(pid: int) -> list[int]:
    """Those of a process, zombies included."""
    found = []
    for listing in of(pid, "task").glob("*/children"):
        try:
            found += [int(child) for child in listing.read_text().split()]
        except OSError:  # The thread ended meanwhile.
            continue
    return found


def descriptors(pid: int) -> set[int]:
    return {int(entry) for entry in os.listdir(of(pid, "fd"))}


def sockets(pid: int) -> int:
    """How many of them are sockets."""
    links = []
    for entry in of(pid, "fd").iterdir():
        with suppress(FileNotFoundError):  # Closed meanwhile.
            links.append(os.readlink(entry))
    return sum(link.startswith("socket:") for link in links)


def number(pid: int, name: str) -> int:
    """A number of its status; those of memory are in KiB."""
    lines = of(pid, "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def peak(pid: int) -> int:
    """The most memory that a process and its children have held so far, each its own, KiB."""
    return sum(number(each, "VmHWM") - number(each, "RssFile") for each in (pid, *children(pid)))


def threads(pid: int, watch: bool = False) -> int:
    """How many it has, those of the watch aside."""
    names = [task.joinpath("comm").read_text() for task in of(pid, "task").iterdir()]
    return sum(watch or name != "nb-watch\n" for name in names)


def of(pid: int, name: str) -> Path:
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not tell what a process holds")
    return Path(f"/proc/{pid}/{name}")


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what nothing announces."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def no_more_descriptors(pid: int) -> tuple[int, int]:
    """From now on a process cannot open one. Gives its limits from before, for resource.prlimit."""
    before = limits(pid, resource.RLIMIT_NOFILE)
    taken = descriptors(pid)
    free = next(each for each in range(len(taken) + 1) if each not in taken)
    limits(pid, resource.RLIMIT_NOFILE, (free, before[1]))
    return before


def limits(pid: int, which: int, new: tuple[int, int] | None = None) -> tuple[int, int]:
    """A process's soft and hard limit of a kind, before it got new ones."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("this system has no prlimit(2)")
    return resource.prlimit(pid, which, *([] if new is None else [new]))
