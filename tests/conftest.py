"""Fixtures of every test: the backends to run on, and the check that a test cleans up.

A test that passed must leave no new descriptor, thread or child process behind. One that failed
is not checked: its traceback keeps objects alive.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    import asyncio

DESCRIPTORS = Path("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")
TESTS = Path(__file__).parent
#: Files and folders whose tests judge the time that something takes, or fill the machine: nothing
#: runs beside them.
ALONE = (
    "lab/test_experiments.py",
    "load/test_truth.py",
    "servers/test_crowds.py",
    "servers/test_shed.py",
    "test_pytest_plugin.py",
    "watch",
)
#: Seconds that threads and processes which are already on their way out may take.
GRACE = 5.0
FAILED = pytest.StashKey[bool]()

# A shell starts background jobs with SIGINT ignored, which Python and its children would keep to:
# tests of Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine takes its time, and no test judges it.
hypothesis.settings.register_profile("neverblock", deadline=None)
hypothesis.settings.load_profile("neverblock")


def backends() -> list[str]:
    """The backends this system has, best first."""
    from neverblock import multiplexers

    return [name for name, obstacle in multiplexers.available().items() if obstacle is None]


@pytest.fixture(params=backends())
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn."""
    name: str = request.param
    return name


@pytest.fixture
def loop_factory(backend: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes a loop on each backend in turn; closing it is the test's work."""
    import neverblock

    return lambda: neverblock.Loop(backend=backend)


@pytest.hookimpl(tryfirst=True)  # before marks are chosen by
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.path.is_relative_to(TESTS / path) for path in ALONE):
            item.add_marker("alone")


def pytest_collection_finish() -> None:
    """The thousands of tests stay to the end: a collection of garbage need not look at them."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that passed and left descriptors, threads or child processes behind."""
    descriptors, threads, children = descriptor_targets(), threading.enumerate(), child_processes()
    yield
    if request.node.stash.get(FAILED, True):
        return
    left = left_threads(threads) + left_children(children) + left_descriptors(descriptors)
    if left:
        pytest.fail("the test left behind: " + "; ".join(left), pytrace=False)


def descriptor_targets() -> dict[int, str]:
    """Every open descriptor with what it stands for, which tells a reused number apart."""
    targets = {}
    for entry in os.listdir(DESCRIPTORS):
        try:
            targets[int(entry)] = os.readlink(DESCRIPTORS / entry)
        except FileNotFoundError:  # the listing's own
            continue
        except OSError:  # /dev/fd holds no links
            targets[int(entry)] = ""
    return targets


def left_descriptors(before: dict[int, str]) -> list[str]:
    def new() -> dict[int, str]:
        return {fd: to for fd, to in descriptor_targets().items() if before.get(fd) != to}

    if new():
        gc.collect()
    return [f"descriptor {fd} ({describe(fd, target)})" for fd, target in new().items()]


def describe(descriptor: int, target: str) -> str:
    """A socket with its addresses; anything else as the system names it."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            return repr(sock)
    except OSError:
        return target


def left_threads(before: list[threading.Thread]) -> list[str]:
    new = [thread for thread in threading.enumerate() if thread not in before]
    for thread in new:
        thread.join(GRACE)
    return [f"thread {thread.name}" for thread in new if thread.is_alive()]


def child_processes() -> set[int]:
    """Children of every thread, zombies included; none where the system does not tell."""
    children: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            children.update(map(int, listing.read_text().split()))
        except OSError:  # the thread ended meanwhile
            continue
    return children


def left_children(before: set[int]) -> list[str]:
    new = child_processes() - before
    deadline = time.monotonic() + GRACE
    while new and time.monotonic() < deadline and not all(map(is_zombie, new)):
        time.sleep(0.01)
        new = child_processes() - before
    return [f"process {pid} ({command(pid)})" for pid in sorted(new)]


def is_zombie(pid: int) -> bool:
    """Whether a child ended but was never waited for: time alone does not mend that."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return False


def command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        words = []
    return b" ".join(words).decode(errors="replace").strip() or "ended, never waited for"
