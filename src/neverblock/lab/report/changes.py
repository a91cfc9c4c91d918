"""What changed between two runs: the medians whose spreads do not touch.

- A change is better or worse only where the unit says which; else it is a change.
- What only one of the two measured is counted, not judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log

from neverblock.lab.report.series import named
from neverblock.lab.report.units import higher_is_better, scale
from neverblock.lab.results import CaseKey, Results, Summary, summaries

#: How many are shown; the rest is counted.
MOST = 40


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


def changes(now: Results, before: Results) -> Changes:
    found: list[Change] = []
    compared = new = gone = 0
    for experiment, metric in {**_metrics(now), **_metrics(before)}:
        after = summaries(now.rows, experiment, metric)
        former = summaries(before.rows, experiment, metric)
        new += len(after.keys() - former.keys())
        gone += len(former.keys() - after.keys())
        for case in after.keys() & former.keys():
            compared += 1
            one, other = former[case], after[case]
            if one.unit == other.unit and (one.high < other.low or other.high < one.low):
                found.append(_change(experiment, metric, case, one, other))
    found.sort(key=lambda each: (-each.size, each.experiment, each.metric, each.case))
    return Changes(
        since=before.started,
        different=_different(now, before),
        shown=found[:MOST],
        hidden=len(found[MOST:]),
        compared=compared,
        better=sum(each.judgement == "better" for each in found),
        worse=sum(each.judgement == "worse" for each in found),
        new=new,
        gone=gone,
    )


def _metrics(results: Results) -> dict[tuple[str, str], None]:
    return {(row.experiment, row.metric): None for row in results.rows}


def _change(experiment: str, metric: str, case: CaseKey, one: Summary, other: Summary) -> Change:
    fitting = scale(one.unit, [one.median, other.median])
    higher = higher_is_better(one.unit)
    up = other.median > one.median
    ratio = other.median / one.median if one.median else inf
    return Change(
        experiment=experiment,
        metric=metric,
        case=", ".join(named(part, value) for part, value in case),
        before=fitting.number(one.median),
        after=fitting.number(other.median),
        unit=fitting.label,
        change=_told(ratio),
        judgement="" if higher is None else "better" if up == higher else "worse",
        size=abs(log(ratio)) if 0 < ratio < inf else inf,
    )


def _told(ratio: float) -> str:
    if ratio == inf:
        return "from 0"
    if ratio >= 2:
        return f"× {ratio:.3g}"
    return f"{(ratio - 1) * 100:+.3g} %".replace("-", "\N{MINUS SIGN}")


def _different(now: Results, before: Results) -> list[tuple[str, str, str]]:
    return [
        (name, str(one.get(name, "–")), str(other.get(name, "–")))
        for one, other in ((before.machine, now.machine), (before.versions, now.versions))
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]
