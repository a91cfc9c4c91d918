"""What a chart shows: the cases it names, as lines of points, each a median with its spread.

- What is less than nothing has no place on a logarithmic axis: it stands in the table alone.
- Two cases never share a point: what tells them apart beyond the chart's own words is added to
  their names.
- Lines and places on the axis are in one order on the whole page: well-known names first, then by
  name, numbers by size. Runs shuffle their cases, so the order of rows says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from neverblock.lab.report.palette import KNOWN, Style, styles
from neverblock.lab.report.units import setting
from neverblock.lab.results import Case, Chart, Results, Scalar, Summary, summaries


@dataclass(frozen=True, slots=True)
class Point:
    x: Scalar
    summary: Summary


@dataclass(frozen=True, slots=True)
class Line:
    key: tuple[str, ...]
    name: str
    style: Style
    points: tuple[Point, ...]

    def at(self, x: Scalar) -> Summary | None:
        return next((point.summary for point in self.points if same(point.x, x)), None)


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart with its data, in the units measured."""

    chart: Chart
    lines: tuple[Line, ...]

    @property
    def xs(self) -> list[Scalar]:
        return ordered(point.x for line in self.lines for point in line.points)

    @property
    def numeric(self) -> bool:
        return all(is_number(x) for x in self.xs)

    @property
    def summaries(self) -> list[Summary]:
        return [point.summary for line in self.lines for point in line.points]


def picture(results: Results, experiment: str, chart: Chart) -> Picture:
    found = {
        key: summary
        for key, summary in summaries(results.rows, experiment, chart.metric).items()
        if chart.x in dict(key)
        and matches(dict(key), chart.where)
        and (summary.median >= 0 or not chart.log_y)
    }
    cases = [dict(key) for key in found]
    parts = telling(cases, chart.x, chart.series)
    lines: dict[tuple[str, ...], list[Point]] = {}
    for case, summary in zip(cases, found.values(), strict=True):
        lines.setdefault(name_of(case, parts), []).append(Point(case[chart.x], summary))
    keys = sorted(lines, key=rank)
    looks = styles(keys)
    return Picture(
        chart,
        tuple(
            Line(key, label(key) or chart.metric, looks[key], tuple(in_order(points)))
            for key in keys
            for points in [lines[key]]
        ),
    )


def matches(case: Case, where: Case) -> bool:
    return all(name in case and same(case[name], value) for name, value in where.items())


def telling(cases: Sequence[Case], x: str, series: Iterable[str]) -> list[str]:
    """The parts of these cases that tell one line from another."""
    asked = [part for part in series if part != x]
    rest = dict.fromkeys(part for case in cases for part in case if part not in (x, *asked))
    varying = [
        part
        for part in [*asked, *rest]
        if len({(part in case, case.get(part)) for case in cases}) > 1
    ]
    return varying or asked[:1]


def name_of(case: Case, parts: Iterable[str]) -> tuple[str, ...]:
    """One text for each part; "" for one that the case lacks."""
    return tuple(named(part, case[part]) if part in case else "" for part in parts)


def named(part: str, value: Scalar) -> str:
    """A value that says what it is: "epoll", "8 workers", "without to_thread"."""
    if value is True:
        return f"with {part}"
    if value is False or value is None:
        return f"without {part}"
    if not is_number(value):
        return str(value)
    return f"{setting(number_of(value))} {part.removesuffix('s') if value == 1 else part}"


def label(key: tuple[str, ...]) -> str:
    return ", ".join(filter(None, key))


def is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(one: Scalar, other: Scalar) -> bool:
    """Equal, where True is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def ordered(values: Iterable[Scalar]) -> list[Scalar]:
    distinct = list({(isinstance(value, bool), value): value for value in values}.values())
    return sorted(distinct, key=lambda value: (number_of(value), rank((str(value),))))


def rank(key: tuple[str, ...]) -> list[tuple[int, str]]:
    """For sorting names."""
    known = list(KNOWN)
    return [(known.index(name) if name in KNOWN else len(known), name) for name in key]


def in_order(points: list[Point]) -> list[Point]:
    key: Callable[[Point], float] = lambda point: number_of(point.x)  # noqa: E731
    return sorted(points, key=key) if all(is_number(point.x) for point in points) else points


def number_of(value: Scalar) -> float:
    """0 for what is none."""
    return float(value) if isinstance(value, int | float) and value == value else 0.0
