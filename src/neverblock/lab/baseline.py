"""A run beside an older one: what changed, and what became worse.

Worse means: by its median, past the tolerance, *and* no round of the one lies among the rounds of
the other. A median that moves within the rounds of before has not changed.
"""

from dataclasses import dataclass

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
