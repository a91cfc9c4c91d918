"""Starts client processes, lets them begin together, and adds up what they measured.

- Each is a fresh interpreter, not a fork: whoever calls may have threads, a loop, open connections.
- None outlives the call. One that dies is counted and named, and the figures of the others kept.
- They are in process groups of their own: Ctrl-C reaches the caller alone, who ends the run early.
"""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import TypeAlias

from neverblock.load import limits
from neverblock.load.connecting import context_of
from neverblock.load.distribution import hdr_histogram
from neverblock.load.kinds import DIED
from neverblock.load.messages import Go, Order, Progress, Ready, Refused, Stop
from neverblock.load.plan import Plan
from neverblock.load.recorder import nanoseconds
from neverblock.load.result import Result

OnProgress: TypeAlias = Callable[[Progress], None]

START = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from neverblock.load.child import main
main(int(sys.argv[2]))
"""
#: Nanoseconds between the word to start and the start.
LEAD = 20_000_000
#: Seconds without a word, after which a process counts as stuck: it says something all the time.
SILENCE = 60.0


def run(
    plan: Plan,
    on_progress: OnProgress | None = None,
    *,
    gate: Callable[[], None] | None = None,
    first_source: int = 0,
) -> Result:
    """Do what the plan says, and return what came of it. Blocks; any thread may call it.

    ``on_progress`` is called with a `Progress` several times a second. ``gate`` is called once,
    when the connections are open, and may block until others are ready, too. ``first_source``
    leaves so many addresses, from 127.0.0.1 on, to others that load a loopback address of this
    machine with many connections. Ctrl-C ends the run early: the result has what was measured until
    then. Raises PlanError for what the system does not allow, ModuleNotFoundError where the extra
    ``load`` is not installed.
    """
    hdr_histogram()
    limits.check(plan)
    context_of(plan)
    with Children(plan, first_source) as children:
        return children.run(on_progress or (lambda progress: None), gate or (lambda: None))


class Child:
    """A client process, and the tie to it."""

    def __init__(self, order: Order) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, json.dumps(sys.path), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        self.tie: Connection = Connection(ours.detach())
        self.heard = time.monotonic()
        self.opened: int | None = None
        self.progress: Progress | None = None
        self.result: Result | None = None
        self.died: str | None = None
        self.send(order)

    @property
    def over(self) -> bool:
        """Whether nothing is to be expected of it any more."""
        return self.result is not None or self.died is not None

    def send(self, message: object) -> None:
        """Tell it something; whether it still hears is found out by listening."""
        try:
            self.tie.send(message)
        except OSError:
            pass

    def hear(self) -> object:
        """What it says; None: it has died."""
        self.heard = time.monotonic()
        try:
            return self.tie.recv()
        except (EOFError, OSError):
            code = self.process.wait()
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self.died = f"process {self.process.pid}: {name}"
            return None

    def close(self) -> None:
        """End it, and forget it."""
        self.tie.close()
        if self.result is None:
            self.process.kill()
        self.process.wait()


class Children:
    """All of them."""

    def __init__(self, plan: Plan, first_source: int) -> None:
        self.plan = plan
        self.first_source = first_source
        self.children: list[Child] = []
        self.stopped = False

    def __enter__(self) -> "Children":
        try:
            for index in range(self.plan.processes):
                self.children.append(Child(Order(self.plan, index, self.first_source)))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        for child in self.children:
            child.close()

    def run(self, on_progress: OnProgress, gate: Callable[[], None]) -> Result:
        """Let them do it."""
        try:
            self.listen(lambda child: child.opened is not None, on_progress)
            if any(child.opened for child in self.children):
                gate()
                self.tell(Go(nanoseconds() + LEAD))
            else:
                self.tell(Stop())
            self.listen(lambda child: False, on_progress)
        except KeyboardInterrupt:
            self.stopped = True
            self.tell(Stop())
            self.listen(lambda child: False, lambda progress: None)
        return self.sum()

    def tell(self, message: object) -> None:
        for child in self.children:
            child.send(message)

    def listen(self, enough: Callable[[Child], bool], on_progress: OnProgress) -> None:
        """Hear what they say until each has said enough, or is over."""
        while left := [child for child in self.children if not (child.over or enough(child))]:
            ready = wait([child.tie for child in left], timeout=1.0)
            for child in left:
                if child.tie in ready:
                    self.take(child, child.hear(), on_progress)
                elif time.monotonic() - child.heard > SILENCE:
                    child.process.kill()

    def take(self, child: Child, said: object, on_progress: OnProgress) -> None:
        match said:
            case Progress():
                child.progress = said
                on_progress(self.progress(said))
            case Ready(opened):
                child.opened = opened
            case Refused(error):
                raise error
            case Result():
                child.result = said

    def progress(self, newest: Progress) -> Progress:
        """Of all, as far as they have told."""
        told = [child.progress for child in self.children if child.progress is not newest]
        total = newest
        for each in told:
            if each is not None:
                total = total.plus(each)
        return total

    def sum(self) -> Result:
        total = Result.empty(self.plan.shown, corrected=self.plan.rate is not None)
        for child in self.children:
            if child.result is not None:
                total.merge(child.result)
            else:
                total.fail(DIED, child.died or "")
        total.interrupted = self.stopped
        return total
