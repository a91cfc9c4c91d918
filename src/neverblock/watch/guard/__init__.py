"""The guard: known blocking calls raise in a thread while it runs a strict loop.

- entries (the C functions, compiled) ← table (what is known) ← decide (may it?) ← Guarded.
- Set up while at least one strict loop runs in the process, taken down with the last; the audit
  hook alone stays, idle.
- A forked child has no guard: a strict loop that it runs sets up its own.
"""

import os
import threading
from types import FrameType
from typing import Any, Final, Protocol

from neverblock.watch.guard import callers, entries
from neverblock.watch.guard.body import Body
from neverblock.watch.guard.call import Call
from neverblock.watch.guard.permission import allow_blocking

__all__ = ["Guard", "Guarded", "allow_blocking"]


class Watcher(Protocol):
    """What watches one loop otherwise: see neverblock.loop."""

    def enter(self) -> None: ...
    def leave(self) -> None: ...
    def stop(self) -> None: ...


class Guarded:
    """Guards the thread that runs a loop, and lets somebody else watch it as well."""

    def __init__(self, watcher: Watcher | None = None) -> None:
        self._watcher = watcher
        self._term = -1
        self._outer: FrameType | None = None

    def enter(self) -> None:
        """The calling thread runs the loop from now on."""
        if self._watcher is not None:
            self._watcher.enter()
        self._term = installation.begin()
        self._outer, callers.run.outermost = callers.run.outermost, callers.runner()
        entries.enter()

    def leave(self) -> None:
        """It does not run any more, for the time being."""
        entries.leave()
        callers.run.outermost, self._outer = self._outer, None
        term, self._term = self._term, -1
        installation.end(term)
        if self._watcher is not None:
            self._watcher.leave()

    def stop(self) -> None:
        """The loop is closed."""
        if self._watcher is not None:
            self._watcher.stop()


class Guard:
    """Makes a loop strict without watching it for stalls: ``Loop(watch=Guard())``."""

    def attach(self, loop: Any) -> Guarded:
        """What guards the loop's thread while it runs."""
        return Guarded()


class Installation:
    """What is set up in this process: counted by the strict loops that run."""

    def __init__(self) -> None:
        self.term = 0
        """Of this process: another one in a forked child."""
        self._lock = threading.Lock()
        self._running = 0
        self._left: list[Call] | None = None
        """Calls whose place is not taken; None: nothing is prepared."""
        self._replaced: list[str] = []
        self._bodies: list[Body] = []

    def begin(self) -> int:
        """One more strict loop runs. Raises RuntimeError where an audit hook refuses ours."""
        with self._lock:
            if self._running == 0:
                self._stand(self._prepare() if self._left is None else self._left)
                entries.set_up()
                for body in self._bodies:
                    body.set_up()
            self._running += 1
            return self.term

    def end(self, term: int) -> None:
        """One less, if it began in this process."""
        with self._lock:
            if term != self.term:
                return
            self._running -= 1
            if self._running == 0:
                self._take_down()

    def abandon(self) -> None:
        """In a forked child, where nothing of this runs."""
        entries.leave()
        callers.run.outermost = None
        self._lock = threading.Lock()  # A thread that is not here may hold the parent's.
        self.term += 1
        self._running = 0
        self._take_down()

    def _take_down(self) -> None:
        entries.take_down()
        for body in self._bodies:
            body.take_down()

    def _prepare(self) -> list[Call]:
        from neverblock.watch.guard import decide, table

        entries.listen(table.events())
        entries.answer_by(decide.ask)
        entries.let_wait(table.TURN, table.SELECTORS)
        return table.standing()

    def _stand(self, calls: list[Call]) -> None:
        """Take the place of each; what is replaced just now, as by a mock, is tried again."""
        from neverblock.watch import report
        from neverblock.watch.guard import table

        left: list[Call] = []
        replaced: list[str] = []
        for call in calls:
            thing = table.found(call.at)
            if thing is None or not table.is_own(call, thing):
                left.append(call)
                if thing is not None:
                    replaced.append(call.name)
            elif call.how == "next":
                entries.stand_at_next(thing, call)
            elif call.how == "body":
                self._bodies.append(Body(thing, call))
            else:
                entries.stand_at(thing, call, table.KINDS[call.how])
        told, self._replaced, self._left = self._replaced, replaced, left
        if replaced and replaced != told:
            report.logger.info("not guarded while replaced: %s", ", ".join(replaced))


installation: Final = Installation()
os.register_at_fork(after_in_child=installation.abandon)
