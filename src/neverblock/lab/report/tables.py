"""The numbers behind the charts, as tables: a row for each case, a column for each metric.

- Metrics of one kind stand in one table; each column has one unit.
- The best of a column is marked among the cases that share a place on the axis, and so is whatever
  cannot be told from it: whose spread overlaps with the best one's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from neverblock.lab.report.series import (
    label,
    name_of,
    named,
    ordered,
    rank,
    same,
    telling,
)
from neverblock.lab.report.units import exact, higher_is_better, scale
from neverblock.lab.results import Case, Chart, Description, Results, Summary, key, summaries

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
    groups = []
    for place in ordered(case.get(x) for case in cases):
        here = [case for case in cases if same(case.get(x), place)]
        group = Group(named(x, place) if x else "")
        best = {metric: _best(found[metric].get(key(case)) for case in here) for metric in metrics}
        for case in sorted(here, key=lambda case: rank(name_of(case, parts))):
            cells = []
            for metric in metrics:
                summary = found[metric].get(key(case))
                cells.append(_cell(summary, best[metric], numbers[metric]))
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


def _best(found: Iterable[Summary | None]) -> Summary | None:
    """None where nothing is better than anything, or there is one thing only."""
    known = [each for each in found if each is not None]
    if len(known) < 2:
        return None
    higher = higher_is_better(known[0].unit)
    if higher is None:
        return None
    best = (max if higher else min)(known, key=lambda each: each.median)
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
