"""What pytest's plugin does once it is asked to: watches whatever loop runs in a phase of a test.

- A run of a loop is watched from its start to its end, of whatever make the loop is.
- A loop of ours that runs on in another thread has a watcher anew in each phase, so that all that
  a phase did is told at its end. Another's keeps the one that it began with.
- A loop that has a watch of its own is left to it.
- Watchers are started and stopped under the session's lock: phases begin and end in one thread,
  runs in any.
"""

import asyncio
import threading

from neverblock.loop import Loop, Watcher
from neverblock.watch import Cause, Output, Stall, Watch
from neverblock.watch.everywhere import every_loop
from neverblock.watch.ledger import key, seconds
from neverblock.watch.report import COLUMN, why


class Phase:
    """What was found in one phase."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        #: Whether a loop ran that was watched.
        self.watched = False
        self.stalls: list[Stall] = []

    def told(self) -> str:
        """What to say of the stalls, the worst line first; "" where there were none."""
        lines: dict[object, list[Stall]] = {}
        for stall in self.stalls:
            lines.setdefault(key(stall), []).append(stall)
        if not lines:
            return ""
        worst = sorted(lines.values(), key=lambda stalls: -sum(each.duration for each in stalls))
        text = [f"the test blocked its event loop for more than {seconds(self.threshold)}:"]
        for stalls in worst:
            text += described(stalls)
        return "\n".join(text)


class Run:
    """One run of a loop, from its start to its end."""

    def __init__(self, session: "Session", loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.watcher: Watcher | None = None
        self._session = session

    def enter(self) -> None:
        with self._session.lock:
            self._session.runs.add(self)
            self.watcher = self._session.watcher(self.loop)
            if self.watcher is not None:
                self.watcher.enter()

    def leave(self) -> None:
        with self._session.lock:
            if self.watcher is not None:
                self.watcher.leave()

    def stop(self) -> None:
        """When it returns, all that the loop did was told."""
        with self._session.lock:
            self._session.runs.discard(self)
            self.rest()

    def renew(self) -> None:
        """It goes on in another thread while a phase begins."""
        self.watcher = watcher = self._session.watcher(self.loop)
        try:
            self.loop.call_soon_threadsafe(self._enter_again, watcher)
        except RuntimeError:  # It was closed meanwhile.
            pass

    def rest(self) -> None:
        """It goes on, and is not watched."""
        watcher, self.watcher = self.watcher, None
        if watcher is not None:
            watcher.stop()

    def _enter_again(self, watcher: Watcher | None) -> None:
        with self._session.lock:
            if watcher is not None and watcher is self.watcher:
                watcher.enter()


class Session(Output):
    """All loops that run from its making to close()."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.runs: set[Run] = set()
        self._phase: Phase | None = None
        self._end = every_loop(self)

    def attach(self, loop: asyncio.AbstractEventLoop) -> Run:
        """As a Watch does."""
        return Run(self, loop)

    def watcher(self, loop: asyncio.AbstractEventLoop) -> Watcher | None:
        """For a run that begins, or a phase in which it goes on."""
        if self._phase is None:
            return None
        self._phase.watched = True
        return Watch(threshold=self._phase.threshold, outputs=[self]).attach(loop)

    def begin_phase(self, threshold: float) -> Phase:
        with self.lock:
            self._phase = phase = Phase(threshold)
            for run in self._ours():
                run.renew()
        return phase

    def end_phase(self) -> None:
        with self.lock:
            for run in self._ours():
                run.rest()
            self._phase = None

    def _ours(self) -> list[Run]:
        return [run for run in self.runs if isinstance(run.loop, Loop)]

    def tell(self, stall: Stall) -> None:
        phase = self._phase
        if phase is not None and stall.over and stall.cause is not Cause.NOT_SCHEDULED:
            phase.stalls.append(stall)

    def close(self) -> None:
        self._end()


def described(stalls: list[Stall]) -> list[str]:
    """The stalls of one line."""
    first = stalls[0]
    total = seconds(sum(stall.duration for stall in stalls))
    times = f", {len(stalls)} times" if len(stalls) > 1 else ""
    task = f' (task "{first.task}")' if first.task else ""
    lines = [
        f"  {first.place or 'a line that is not known'}, for {total}{times}{task}",
        f"      {first.source:<{COLUMN}} {why(first)}" if first.source else f"      {why(first)}",
    ]
    if first.culprit is not None:
        lines.append(f"      another thread is at {first.culprit}")
    if first.hint:
        lines.append(f"      hint: {first.hint}")
    return lines
