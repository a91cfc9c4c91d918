"""What a picture shows, in a sentence for those who do not see it; and other small texts."""

from __future__ import annotations

from datetime import datetime

from neverblock.lab import metrics
from neverblock.lab.report import units
from neverblock.lab.report.series import Picture, named
from neverblock.lab.report.units import shown
from neverblock.lab.results import Case, Scalar


def described(picture: Picture) -> str:
    """The text alternative of a chart: its kind, its axes, its ends."""
    chart, xs = picture.chart, picture.xs
    kind = "Line chart" if chart.kind == "line" and picture.numeric else "Bar chart"
    kind = "Grid" if chart.kind == "grid" else kind
    first, last = named(chart.x, xs[0]), named(chart.x, xs[-1])
    over = f"over {chart.x}" if len(xs) == 1 else f"over {chart.x}, {first} to {last}"
    text = f"{kind} of {chart.metric} {over}."
    if len(picture.lines) > 1:
        text += f" {len(picture.lines)} series: {'; '.join(line.name for line in picture.lines)}."
    found = [
        (summary.median, line.name, point.x)
        for line in picture.lines
        for point in line.points
        for summary in [point.summary]
    ]
    (low, low_name, low_x), (high, high_name, high_x) = (
        min(found, key=_first),
        max(found, key=_first),
    )
    text += f" Lowest: {shown(low, chart.unit)} ({_where(picture, low_name, low_x)});"
    text += f" highest: {shown(high, chart.unit)} ({_where(picture, high_name, high_x)})."
    return text


def _first(found: tuple[float, str, Scalar]) -> float:
    return found[0]


def _where(picture: Picture, name: str, x: Scalar) -> str:
    place = named(picture.chart.x, x)
    return f"{name}, {place}" if len(picture.lines) > 1 else place


def wish(metric: str, unit: str) -> str:
    """What a reader should wish for."""
    return {1: "higher is better", -1: "lower is better", 0: ""}[metrics.direction(metric, unit)]


def case_of(case: Case) -> str:
    return ", ".join(named(part, value) for part, value in case.items()) or "all of it"


#: Of settings, by name.
UNITS = {"duration": "s", "warmup": "s", "size": "B"}


def setting(name: str, value: object) -> str:
    """A value of the machine or of the run: sizes in bytes and lists as people write them."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if name.startswith("memory"):
            return shown(value, "B")
        return f"{units.setting(value)} {UNITS.get(name, '')}".rstrip()
    if isinstance(value, list | tuple):
        return ", ".join(setting(name, each) for each in value) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {setting(key, each)}" for key, each in value.items()) or "none"
    return "none" if value is None or value == "" else str(value)


def date(text: str) -> str:
    """ "24 November 2026, 21:00 UTC"; what is no date stays as it is."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = f" {when.tzname()}" if when.tzinfo else ""
    return f"{when.day} {when:%B %Y, %H:%M}{zone}"
