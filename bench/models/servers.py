"""The servers under measurement: `neverblock serve` by each model, and all of its processes.

What the kernel counts is read from /proc, for the whole tree: the server and its descendants, every
thread of them. Those that ended are in no figure but `cpu_ns_of_all`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, Unsupported
from bench.processes import ROOT, environment, last_line

ECHO = "examples/echo.py:handle"
BLOCKING = "bench/models/blocking.py:handle"
TICKS = os.sysconf("SC_CLK_TCK")
STOP_TIMEOUT = 30.0


@dataclass(frozen=True)
class Model:
    """A way to serve, by the options that ask for it."""

    name: str
    options: tuple[str, ...]
    at_once: int | None = None
    """How many clients it serves at once; None: as many as come."""
    churn: int = 10_000
    """Connections of a churn, so that each model takes about a second."""
    bounded: bool = False
    """Whether its bound has to be raised for many connections."""


MODELS = {
    model.name: model
    for model in (
        Model("loop", ("--model", "loop"), churn=15_000),
        Model("workers", ("--model", "loop", "--workers", "2"), churn=15_000),
        Model("iterative", ("--model", "iterative"), at_once=1),
        Model("process", ("--model", "process"), churn=500, bounded=True),
        Model("thread", ("--model", "thread"), churn=5_000, bounded=True),
        Model("pool", ("--model", "pool"), at_once=64),
    )
}


@dataclass(frozen=True)
class Counts:
    """What the tree had used at one moment."""

    cpu_ns: int
    voluntary: int
    involuntary: int
    processes: int
    threads: int


@dataclass(frozen=True)
class Tree:
    """A server and its descendants."""

    process: subprocess.Popen[str]
    address: str
    """As the native clients take it: tcp:PORT."""
    own: int = 0
    """Descendants without a client: workers."""

    @property
    def pid(self) -> int:
        return self.process.pid

    def pids(self) -> list[int]:
        found = [self.pid]
        for pid in found:  # It grows meanwhile: breadth first.
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with suppress(OSError):
                    found += map(int, children.read_text().split())
        return found

    def counts(self) -> Counts:
        cpu = voluntary = involuntary = threads = 0
        pids = self.pids()
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                threads += 1
                cpu += int((task / "schedstat").read_text().split()[0])
                fields = dict(
                    line.split(":", 1) for line in (task / "status").read_text().splitlines()
                )
                voluntary += int(fields["voluntary_ctxt_switches"])
                involuntary += int(fields["nonvoluntary_ctxt_switches"])
        return Counts(cpu, voluntary, involuntary, len(pids), threads)

    def cpu_ns_of_all(self) -> int:
        """Processor time of the tree with what has ended and was waited for (proc_pid_stat(5))."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks * 1_000_000_000 // TICKS

    def pss_bytes(self) -> int:
        """Memory of the tree, what is shared counted once (proc_pid_smaps_rollup(5))."""
        return 1024 * sum(field_kib(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in self.pids())

    def page_table_bytes(self) -> int:
        """What the kernel keeps to map it (VmPTE, proc_pid_status(5)); in no PSS."""
        return 1024 * sum(field_kib(f"/proc/{pid}/status", "VmPTE:") for pid in self.pids())

    def wait_rest(self, timeout: float = 60.0) -> None:
        """Until it used no processor time for a while: it dealt with all it was given."""
        before: Counts | None = None

        def unchanged() -> bool:
            nonlocal before
            before, last = self.counts(), before
            return before == last

        self._wait(unchanged, 0.3, timeout, "the server does not come to rest")

    def wait_alone(self, timeout: float = 60.0) -> None:
        """Until no child serves a client any more."""
        wanted = self.own + 1
        self._wait(
            lambda: len(self.pids()) <= wanted, 0.05, timeout, "children are left without a client"
        )

    def _wait(self, done: Callable[[], bool], pause: float, timeout: float, failure: str) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                if done():
                    return
            except (FileNotFoundError, ProcessLookupError):
                pass  # A process ended between two looks.
            if time.monotonic() > deadline:
                raise BenchError(failure)
            time.sleep(pause)


def field_kib(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


def command(model: Model, handler: str, more: tuple[str, ...] = ()) -> list[str]:
    serve = [sys.executable, "-m", "neverblock", "serve", handler]
    return [*serve, "--bind", "tcp://127.0.0.1:0", *model.options, *more]


@contextmanager
def serving(model: Model, core: int, *more: str, handler: str = ECHO) -> Iterator[Tree]:
    """A server of that model on that core; killed afterwards, with every descendant."""
    with tempfile.TemporaryFile("w+") as errors:
        with on_core(core):  # Which all of its descendants inherit.
            process = subprocess.Popen(
                command(model, handler, more),
                cwd=ROOT,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # A group of its own, to be killed as one.
            )
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said.startswith("listening on tcp://127.0.0.1:"):
                reason = last_line(errors)
                raise Unsupported(reason) if "No such option" in reason else BenchError(reason)
            port = said.removeprefix("listening on tcp://127.0.0.1:").partition(" ")[0]
            tree = Tree(process, f"tcp:{port}")
            tree = Tree(process, f"tcp:{port}", own=len(tree.pids()) - 1)
            yield tree
            if process.poll() is not None:
                raise BenchError(f"the server ended: {last_line(errors)}")
        finally:
            process.terminate()  # It reaps its children; nobody else may do so in time.
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes started within run on that core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
