"""The numbers behind the charts, as tables: a row for each case, a column for each metric.

- Metrics of one kind stand in one table; each column has one unit.
- The best of a column is marked among the cases that share a place on the axis, and so is whatever
  cannot be told from it: whose spread overlaps with the best one's. Who made errors, where others
  made none, is not among them: whoever leaves clients waiting is quick with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from neverblock.lab.metrics import direction
from neverblock.lab.report.series import (
    label,
    name_of,
    named,
    ordered,
    rank,
    same,
    telling,
)
from neverblock.lab.report.units import exact, scale
from neverblock.lab.results import (
    Case,
    CaseKey,
    Chart,
    Description,
    Results,
    Summary,
    key,
    summaries,
)

KINDS = {
    "speed": "Throughput and time",
    "cost": "CPU time",
    "memory": "Memory",
    "work": "Work for each",
    "count": "Counts",
}


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    spread: str = ""
    """The lowest and the highest, where they differ on paper."""
    best: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    unit: str


@dataclass(slots=True)
class Group:
    """The rows of one place on the axis."""

    title: str
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    first: str
    """What the first column names."""
    columns: list[Column]
    groups: list[Group]
    marks: bool
    """Whether anything is marked as best."""


def tables(results: Results, description: Description) -> list[Table]:
    metrics: dict[str, str] = {
        row.metric: row.unit for row in results.rows if row.experiment == description.name
    }
    kinds: dict[str, list[str]] = {}
    for metric, unit in metrics.items():
        kinds.setdefault(_kind(unit), []).append(metric)
    return [
        _table(results, description, KINDS[kind], kinds[kind]) for kind in KINDS if kind in kinds
    ]


def _kind(unit: str) -> str:
    if unit in ("1/s", "B/s", "s"):
        return "speed"
    base = unit.partition("/")[0]
    return {"s": "cost", "B": "memory"}.get(base, "count" if base == unit else "work")


def _table(results: Results, description: Description, title: str, metrics: list[str]) -> Table:
    found = {metric: summaries(results.rows, description.name, metric) for metric in metrics}
    cases = [dict(each) for each in dict.fromkeys(k for each in found.values() for k in each)]
    x = _axis(description.charts, cases)
    parts = telling(cases, x, _series(description.charts))
    columns: list[Column] = []
    numbers: dict[str, Callable[[float], str]] = {}
    for metric in metrics:
        medians = [each.median for each in found[metric].values()]
        unit = next(iter(found[metric].values())).unit
        fitting = scale(unit, medians)
        columns.append(Column(metric, fitting.label))
        numbers[metric] = exact if unit == "1" else fitting.number
    failing = _failing(results, description)
    groups = []
    for place in ordered(case.get(x) for case in cases):
        here = [case for case in cases if same(case.get(x), place)]
        group = Group(named(x, place) if x else "")
        good = [case for case in here if key(case) not in failing] or here
        among = {metric: here if metric == "errors" else good for metric in metrics}
        best = {
            metric: _best(metric, (found[metric].get(key(case)) for case in among[metric]))
            for metric in metrics
        }
        for case in sorted(here, key=lambda case: rank(name_of(case, parts))):
            cells = []
            for metric in metrics:
                summary = found[metric].get(key(case))
                leading = best[metric] if case in among[metric] else None
                cells.append(_cell(summary, leading, numbers[metric]))
            group.rows.append((label(name_of(case, parts)) or group.title, cells))
        groups.append(group)
    if all(len(group.rows) == 1 for group in groups):
        # Headings over single rows say everything twice.
        rows = [
            (_joined(group.title, name), cells) for group in groups for name, cells in group.rows
        ]
        groups = [Group("", rows)]
    marks = any(cell.best for group in groups for _, cells in group.rows for cell in cells)
    return Table(title, ", ".join(parts) or x, columns, groups, marks)


def _failing(results: Results, description: Description) -> set[CaseKey]:
    found = summaries(results.rows, description.name, "errors")
    return {case for case, summary in found.items() if summary.median > 0}


def _joined(title: str, name: str) -> str:
    return title if name == title else f"{name}, {title}"


def _axis(charts: tuple[Chart, ...], cases: Sequence[Case]) -> str:
    """The part that most of these cases have: the first chart's, else that of another."""
    for chart in charts:
        if any(chart.x in case for case in cases):
            return chart.x
    return next((part for case in cases for part in case), "")


def _series(charts: tuple[Chart, ...]) -> list[str]:
    return list(dict.fromkeys(part for chart in charts for part in chart.series))


def _best(metric: str, found: Iterable[Summary | None]) -> Summary | None:
    """None where nothing is better than anything, or there is one thing only."""
    known = [each for each in found if each is not None]
    if len(known) < 2:
        return None
    better = direction(metric, known[0].unit)
    if not better:
        return None
    best = max(known, key=lambda each: each.median * better)
    return None if all(_alike(each, best) for each in known) else best


def _alike(one: Summary, other: Summary) -> bool:
    return one.low <= other.high and other.low <= one.high


def _cell(summary: Summary | None, best: Summary | None, number: Callable[[float], str]) -> Cell:
    if summary is None:
        return Cell("–")
    low, high = number(summary.low), number(summary.high)
    return Cell(
        number(summary.median),
        f"{low} – {high}" if low != high else "",
        best is not None and _alike(summary, best),
    )
