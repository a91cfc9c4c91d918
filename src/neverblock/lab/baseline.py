"""A run beside an older one: what changed, what became worse, and whether the order is the same.

- Worse means: by its median, past the tolerance, *and* no round of the one lies among the rounds of
  the other. A median that moves within the rounds of before has not changed.
- Order is that of the ways to serve by throughput, pair by pair, at the same number of connections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from neverblock.lab.metrics import direction
from neverblock.lab.results import Case, CaseKey, Results, Summary, key, summaries


@dataclass(frozen=True, slots=True)
class Change:
    """A metric of a case in both runs."""

    experiment: str
    case: CaseKey
    written: Case
    """The same in the order that it was written in, for people."""
    metric: str
    before: Summary
    after: Summary

    @property
    def ratio(self) -> float:
        """The median now, as a multiple of that before."""
        if not self.before.median:
            return 1.0 if not self.after.median else float("inf")
        return self.after.median / self.before.median

    @property
    def apart(self) -> bool:
        """Whether all rounds of one lie beyond all of the other."""
        return self.after.low > self.before.high or self.after.high < self.before.low

    def moved(self, tolerance: float) -> bool:
        return abs(self.ratio - 1) > tolerance and self.apart

    @property
    def judgement(self) -> int:
        """1: for the better; -1: for the worse; 0: neither, or the same."""
        better = direction(self.metric, self.after.unit)
        if self.after.median == self.before.median:
            return 0
        return better if self.after.median > self.before.median else -better

    def worse(self, tolerance: float) -> bool:
        return self.moved(tolerance) and self.judgement < 0


def changes(before: Results, after: Results) -> list[Change]:
    """Everything that both have, in the same unit."""
    found = []
    written = {key(row.case): row.case for row in after.rows}
    for experiment, metric in measured(after):
        old = summaries(before.rows, experiment, metric)
        for case, now in summaries(after.rows, experiment, metric).items():
            if case in old and old[case].unit == now.unit:
                found.append(Change(experiment, case, written[case], metric, old[case], now))
    return found


def gone(before: Results, after: Results) -> list[tuple[str, CaseKey]]:
    """Cases that were measured before, and were tried and could not be measured now."""
    tried = {(each.experiment, tuple(sorted(each.case.items()))) for each in after.missing}
    had = {(row.experiment, tuple(sorted(row.case.items()))) for row in before.rows}
    has = {(row.experiment, tuple(sorted(row.case.items()))) for row in after.rows}
    return sorted((tried & had) - has, key=str)


def measured(results: Results) -> list[tuple[str, str]]:
    """Experiments and their metrics, in order of appearance."""
    return list(dict.fromkeys((row.experiment, row.metric) for row in results.rows))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two ways to serve, under the same load."""

    one: CaseKey
    other: CaseKey
    same: bool
    """Whether the one that was faster still is."""
    closeness: float
    """How far apart they are in the run where they are closer: a share of the smaller."""


def pairs(found: Sequence[Change]) -> list[Pair]:
    """Every two ways at the same number of connections that both runs measured."""
    throughputs = [each for each in found if each.metric == "throughput"]
    made = []
    for one, other in combinations(throughputs, 2):
        if one.experiment != other.experiment or load(one.case) != load(other.case):
            continue
        old = one.before.median - other.before.median
        new = one.after.median - other.after.median
        closeness = min(
            abs(old) / max(min(one.before.median, other.before.median), 1e-9),
            abs(new) / max(min(one.after.median, other.after.median), 1e-9),
        )
        made.append(Pair(one.case, other.case, old * new >= 0, closeness))
    return made


def load(case: CaseKey) -> CaseKey:
    """What of a case is not the way to serve."""
    return tuple(item for item in case if item[0] not in ("model", "backend", "loop"))


def within(found: Sequence[Change], tolerance: float) -> tuple[int, int]:
    """How many medians of throughput there are, how many moved by no more than the tolerance."""
    ratios = [each.ratio for each in found if each.metric == "throughput"]
    return len(ratios), sum(abs(ratio - 1) <= tolerance for ratio in ratios)
