"""What metrics are made of: stalls by cause, and the counts of the watched loops.

- Nothing here grows with what a program does: causes and buckets are few, lines are not kept.
- A loop is held weakly. Its counts stay when it is closed: counters never go back.
"""

import asyncio
import threading
import weakref
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

from neverblock.engine.histogram import Histogram
from neverblock.watch.outputs.output import Output
from neverblock.watch.stall import Cause, Stall

#: Upper bounds of buckets: seconds, and how much is ready.
STALL_BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LOOP_BOUNDS: Final = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
READY_BOUNDS: Final = (*(2.0**n - 1 for n in range(11)), 4095.0, 16383.0, 65535.0)
#: Histograms of a loop's statistics that are passed on, by name.
LENGTHS: Final = {
    "turn_seconds": LOOP_BOUNDS,
    "callback_seconds": LOOP_BOUNDS,
    "lag_seconds": LOOP_BOUNDS,
    "ready_lengths": READY_BOUNDS,
}


@dataclass(slots=True)
class Lengths:
    """How many were as long as each bound at most, how many there were, and their sum."""

    bounds: tuple[float, ...]
    at_most: list[int] = field(default_factory=list)
    count: int = 0
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.at_most = self.at_most or [0] * len(self.bounds)

    @classmethod
    def of(cls, found: Histogram, bounds: tuple[float, ...]) -> "Lengths":
        """Of a loop's histogram, as its at_most() has it."""
        up_to = [0, *accumulate(found.counts)]
        at_most = [up_to[bisect_right(found.bounds, bound)] for bound in bounds]
        return cls(bounds, at_most, up_to[-1], found.sum)

    def observe(self, seconds: float) -> None:
        self.count += 1
        self.sum += seconds
        for index, bound in enumerate(self.bounds):
            if seconds <= bound:
                self.at_most[index] += 1

    def buckets(self) -> list[tuple[str, int]]:
        """How many there were up to each bound, as Prometheus writes it in the label ``le``."""
        named = [(str(n), at_most) for n, at_most in zip(self.bounds, self.at_most, strict=True)]
        return [*named, ("+Inf", self.count)]

    def __iadd__(self, other: "Lengths") -> "Lengths":
        self.at_most = [a + b for a, b in zip(self.at_most, other.at_most, strict=True)]
        self.count += other.count
        self.sum += other.sum
        return self


@dataclass(slots=True)
class Counts:
    """Of one loop, or of several together."""

    turns: int = 0
    callbacks: int = 0
    lengths: dict[str, Lengths] = field(default_factory=dict)

    def __iadd__(self, other: "Counts") -> "Counts":
        self.turns += other.turns
        self.callbacks += other.callbacks
        for name, lengths in other.lengths.items():
            self.lengths.setdefault(name, Lengths(lengths.bounds)).__iadd__(lengths)
        return self


class Watched:
    """A loop, with what it had counted when it was last looked at."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._last = Counts()

    def is_of(self, loop: asyncio.AbstractEventLoop) -> bool:
        return self._loop() is loop

    @property
    def open(self) -> bool:
        loop = self._loop()
        return loop is not None and not loop.is_closed()

    def counts(self) -> Counts:
        loop = self._loop()
        if loop is not None and hasattr(loop, "statistics"):
            self._last = counts_of(loop.statistics())
        return self._last


def counts_of(statistics: dict[str, Any]) -> Counts:
    return Counts(
        statistics["turns"],
        statistics["callbacks"],
        {
            name: Lengths.of(found, bounds)
            for name, bounds in LENGTHS.items()
            if (found := statistics.get(name)) is not None
        },
    )


class Measures(Output):
    """Keeps count. The base of outputs that show metrics."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._lock = threading.RLock()
        self._stalls = dict.fromkeys(Cause, 0)
        self._seconds = dict.fromkeys(Cause, 0.0)
        self._lengths = Lengths(STALL_BOUNDS)
        #: Stalls that go on, by their loop; a turn may, and a callback within it as well.
        self._going_on: set[tuple[int, bool]] = set()
        self._loops: list[Watched] = []
        self._closed = Counts()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            # A loop that is not ours is watched anew in each of its runs.
            if not any(watched.is_of(loop) for watched in self._loops):
                self._loops.append(Watched(loop))

    def tell(self, stall: Stall) -> None:
        with self._lock:
            if not stall.over:
                self._going_on.add((stall.loop, stall.is_turn))
                return
            self._going_on.discard((stall.loop, stall.is_turn))
            self._stalls[stall.cause] += 1
            self._seconds[stall.cause] += stall.counted
            self._lengths.observe(stall.counted)

    def flush(self) -> None:
        with self._lock:
            for watched in [each for each in self._loops if not each.open]:
                self._closed += watched.counts()
                self._loops.remove(watched)
            if not self._loops:
                self._going_on.clear()

    def forget(self) -> None:
        self._clear()

    def stalled(self) -> int:
        """How many loops are stalled now."""
        with self._lock:
            return len({loop for loop, _ in self._going_on})

    def loops(self) -> Counts:
        """Of all loops, closed ones included."""
        with self._lock:
            total = Counts()
            total += self._closed
            for watched in self._loops:
                total += watched.counts()
            return total


def label(cause: Cause) -> str:
    """A cause as the value of a label: ``gil_held``."""
    return cause.name.lower()
