"""What a server used between two moments: when its load began, and when it was over.

- A server without load uses nothing, so the moments need not be exact.
- What a process used, and how often a thread was switched, is gone when it ends: where one did,
  nothing is told of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from neverblock.lab.server import Server
from neverblock.lab.tree import Counts

#: What is counted thread by thread.
OF_THREADS: Final = ("voluntary", "involuntary")


@dataclass
class Sampler:
    """Readings of a server; ``read`` is called at each of the two moments."""

    server: Server
    statistics: bool = False
    """Whether its loop has some to tell."""
    _counts: list[Counts] = field(default_factory=list)
    _told: list[Mapping[str, float]] = field(default_factory=list)

    def read(self) -> None:
        """Raises LabError where the server does not answer."""
        self._counts.append(self.server.tree.counts())
        if self.statistics:
            self._told.append(self.server.last_told()[-1][1])

    def used(self, name: str) -> float | None:
        """How much one of the fields of Counts grew; None where it could not be seen."""
        first, last = self._counts
        if last.processes < first.processes:
            return None
        if name in OF_THREADS and last.threads < first.threads:
            return None
        grown = float(getattr(last, name)) - float(getattr(first, name))
        return grown if grown >= 0 else None

    def most(self, name: str) -> float:
        return max(float(getattr(each, name)) for each in self._counts)

    def counted(self, name: str) -> float | None:
        """How much one of the loop's statistics grew; None where it has none of that name."""
        if not all(name in told for told in self._told) or len(self._told) < 2:
            return None
        first, last = self._told
        return last[name] - first[name]
