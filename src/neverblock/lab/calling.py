"""What callers of a server find, as metrics: the clients of lab/callers.py."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from neverblock.errors import LabError
from neverblock.lab import programs
from neverblock.lab.experiment import Metric
from neverblock.lab.server import Server

#: Seconds that callers wait for any answer before they give up.
PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Answers:
    """Seconds of each answer, and of the time in which they were due."""

    plain: Sequence[float]
    marked: Sequence[float]
    seconds: float

    def latencies(self) -> Iterator[Metric]:
        """Of the plain ones, from when each was due."""
        if not self.plain:
            raise LabError("nobody was answered in the time measured; give it more: --duration")
        for share in (50, 99):
            yield Metric(f"latency p{share}", "s", percentile(self.plain, share))
        yield Metric("latency max", "s", max(self.plain))


def call(
    server: Server,
    *,
    cores: frozenset[int],
    count: int,
    plain: str,
    seconds: float,
    warmup: float,
    marked: str = "",
    every: int = 0,
    interval: float = 0.0,
) -> Answers:
    """``count`` callers ask for so long. Raises LabError."""
    request = {
        "port": server.port,
        "count": count,
        "plain": plain,
        "marked": marked,
        "every": every,
        "interval": interval,
        "seconds": seconds,
        "warmup": warmup,
        "patience": PATIENCE,
    }
    timeout = warmup + seconds + 4 * PATIENCE
    found = programs.run("neverblock.lab.callers", request, cores=cores, timeout=timeout)
    return Answers(found["plain"], found["marked"], found["seconds"])


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so many of a hundred do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, ceil(len(ranked) * share / 100) - 1)]
