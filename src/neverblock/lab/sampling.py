"""What a server used within a window of time, from readings taken all along.

- A reading costs little, and is taken so seldom that a tenth of the time goes into them, if that
  is often enough to see the window at all.
- Only readings within the window count, and their rate stands for all of it. What a process used,
  and how often a thread was switched, is gone when it ends: where one did, nothing is told of it.
"""

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from neverblock.lab.server import Server, Told
from neverblock.lab.tree import Counts

PAUSE: Final = 0.05
SHARE: Final = 0.1
#: What is counted thread by thread.
OF_THREADS: Final = ("voluntary", "involuntary")


def between(times: Sequence[float], values: Sequence[float], at: float) -> float:
    """The value at a time, between those before and after; the outermost beyond them."""
    after = bisect_left(times, at)
    if after == 0:
        return values[0]
    if after == len(times):
        return values[-1]
    before = after - 1
    share = (at - times[before]) / (times[after] - times[before])
    return values[before] + share * (values[after] - values[before])


def ended(readings: Sequence[Counts], name: str) -> bool:
    """Whether there were fewer of them at some time than before."""
    counts = [getattr(each, name) for each in readings]
    return any(after < before for before, after in pairwise(counts))


@dataclass
class Sampler:
    """Readings of a server; ``take`` is called again and again while its load runs."""

    server: Server
    longest: float
    """Seconds between two readings at most."""
    statistics: bool = False
    """Whether its loop has some to tell."""
    _counts: list[Counts] = field(default_factory=list)
    _told: list[tuple[float, dict[str, float]]] = field(default_factory=list)

    def _note(self, answers: Sequence[Told]) -> None:
        self._told += [(at, dict(told)) for at, told in answers]

    def take(self) -> None:
        begun = time.monotonic()
        if self.statistics:
            self._note(self.server.told())
            self.server.ask()
        self._counts.append(self.server.tree.counts())
        cost = time.monotonic() - begun
        time.sleep(min(max(PAUSE, cost / SHARE - cost), self.longest))

    def finish(self) -> None:
        """Once the load is over. Raises LabError where the server has gone."""
        self.server.check()
        self._counts.append(self.server.tree.counts())
        if self.statistics:
            self._note(self.server.last_told())

    def used(self, name: str, begin: float, end: float) -> float | None:
        """How much one of the fields of Counts grew; None where it could not be seen."""
        within = [each for each in self._counts if begin <= each.at <= end]
        if len(within) < 2 or ended(within, "processes"):
            return None
        if name in OF_THREADS and ended(within, "threads"):
            return None
        grown = float(getattr(within[-1], name)) - float(getattr(within[0], name))
        return grown * (end - begin) / (within[-1].at - within[0].at)

    def most(self, name: str) -> float:
        return max(float(getattr(each, name)) for each in self._counts)

    def counted(self, name: str, begin: float, end: float) -> float | None:
        """How much one of the loop's statistics grew; None where it has none of that name."""
        found = [(at, told[name]) for at, told in self._told if name in told]
        if not found:
            return None
        times, values = zip(*found, strict=True)
        return between(times, values, end) - between(times, values, begin)
