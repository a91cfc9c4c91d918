"""What changed between two runs: the medians that moved, as lab/baseline.py judges it.

- What became worse comes first, what changed most before the rest.
- What only one of the two measured is counted, not judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log

from neverblock.lab import baseline
from neverblock.lab.report.units import scale
from neverblock.lab.report.words import case_of, setting
from neverblock.lab.results import CaseKey, Results, key

#: How many are shown; the rest is counted.
MOST = 40
JUDGED = {1: "better", -1: "worse", 0: ""}


@dataclass(frozen=True, slots=True)
class Change:
    experiment: str
    metric: str
    case: str
    before: str
    after: str
    unit: str
    change: str
    """"+12 %", "× 3.1"."""
    judgement: str
    """"better", "worse" or ""."""
    size: float


@dataclass(frozen=True, slots=True)
class Changes:
    since: str
    """When the older run was started."""
    tolerance: float
    """The share past which a median has moved."""
    different: list[tuple[str, str, str]]
    """What else was different: name, before, now. Such figures are hard to compare."""
    shown: list[Change]
    hidden: int
    compared: int
    better: int
    worse: int
    new: int
    gone: int

    @property
    def clear(self) -> int:
        return len(self.shown) + self.hidden


def changes(now: Results, before: Results, tolerance: float = 0.0) -> Changes:
    both = baseline.changes(before, now)
    found = [_change(each) for each in both if each.moved(tolerance)]
    found.sort(
        key=lambda each: (
            each.judgement != "worse", -each.size, each.experiment, each.metric, each.case,
        )
    )  # fmt: skip
    return Changes(
        since=before.started,
        tolerance=tolerance,
        different=[
            (name, setting(name, old), setting(name, new))
            for name, old, new in baseline.differences(before, now)
        ],
        shown=found[:MOST],
        hidden=len(found[MOST:]),
        compared=len(both),
        better=sum(each.judgement == "better" for each in found),
        worse=sum(each.judgement == "worse" for each in found),
        new=len(_measured(now) - _measured(before)),
        gone=len(_measured(before) - _measured(now)),
    )


def _measured(results: Results) -> set[tuple[str, str, CaseKey]]:
    return {(row.experiment, row.metric, key(row.case)) for row in results.rows}


def _change(change: baseline.Change) -> Change:
    before, after = change.before, change.after
    fitting = scale(before.unit, [before.median, after.median])
    return Change(
        experiment=change.experiment,
        metric=change.metric,
        case=case_of(change.written),
        before=fitting.number(before.median),
        after=fitting.number(after.median),
        unit=fitting.label,
        change=_told(change.ratio),
        judgement=JUDGED[change.judgement],
        size=abs(log(change.ratio)) if 0 < change.ratio < inf else inf,
    )


def _told(ratio: float) -> str:
    if ratio == inf:
        return "from 0"
    if ratio >= 2:
        return f"× {ratio:.3g}"
    return f"{(ratio - 1) * 100:+.3g} %".replace("-", "\N{MINUS SIGN}")
