"""A run beside an older one: what changed, and what became worse.

Worse means: by its median, past the tolerance, *and* no round of the one lies among the rounds of
the other. A median that moves within the rounds of before has not changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from neverblock.lab.metrics import direction
from neverblock.lab.results import Case, CaseKey, Results, Summary, key, summaries

#: What is told of a machine and is never twice the same.
PASSING: Final = ("load average",)
#: The settings that figures depend on. The others choose what is measured, and how often.
TELLING: Final = ("handler", "protocol", "size", "duration", "warmup", "quick")
#: What a run does not say, as one that was made by another version.
UNKNOWN: Final = "–"


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


def differences(before: Results, after: Results) -> list[tuple[str, Any, Any]]:
    """What else was different: name, before, now. Such figures are hard to compare."""
    return [
        (name, one.get(name, UNKNOWN), other.get(name, UNKNOWN))
        for one, other in (
            (chosen(before.settings), chosen(after.settings)),
            (before.machine, after.machine),
            (before.versions, after.versions),
        )
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name) and name not in PASSING
    ]


def chosen(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of the settings that figures depend on."""
    return {name: settings[name] for name in TELLING if name in settings}


def measured(results: Results) -> list[tuple[str, str]]:
    """Experiments and their metrics, in order of appearance."""
    return list(dict.fromkeys((row.experiment, row.metric) for row in results.rows))
