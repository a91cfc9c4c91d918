"""A bar chart: a row for each case, its name before it, its median behind it, its spread across.

- Bars begin at 0. A logarithmic axis has none, so there the medians are points.
- Where there are several series, a place on the axis is a heading over their rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair

from neverblock.lab.report import axis, units
from neverblock.lab.report.drawing import (
    GROUND,
    INK,
    SIZE,
    Frame,
    clipped,
    data,
    finished,
    pixel_x,
    pixel_y,
    ticks,
    unit_of,
    width_of,
)
from neverblock.lab.report.palette import Style, styles
from neverblock.lab.report.series import Picture, label, named
from neverblock.lab.report.units import Scale, scale
from neverblock.lab.results import Summary

ROW = 24.0
HEADING = 26.0
#: What names may take of a narrow chart.
LEAST = 148.0


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    style: Style
    summary: Summary
    y: float


def bar_chart(picture: Picture, width: float) -> dict[str, Any]:
    """For Vega-Lite. The places on the picture's axis are names."""
    bars, headings, height = _rows(picture)
    unit = scale(picture.chart.unit, [bar.summary.median for bar in bars])
    ends = [value / unit.factor for bar in bars for value in (bar.summary.low, bar.summary.high)]
    along = axis.of_values(ends, logarithmic=picture.chart.log_y)
    values = [unit.number(bar.summary.median) for bar in bars]
    room = min(max(width * 0.36, LEAST), width_of(bar.name for bar in bars))
    frame = Frame(
        width=width - room - 12 - width_of(values) - 10,
        height=height,
        left=room + 12,
        right=width_of(values) + 10,
        top=6,
        bottom=44,
    )
    kept = along.spaced(frame.width, width_of(units.ticks(along.ticks)) + 8)
    x = altair.X("value:Q").scale(along.scale()).title(unit_of(unit, along))
    marks = units.ticks(kept)
    x = x.axis(ticks(kept, marks, domain=False, ticks=False, titlePadding=6))
    rows = [_row(bar, unit, along, frame, room) for bar in bars]
    layers = [
        _bars(rows, x) if along.kind == "linear" else _points(rows, x),
        altair.Chart(data(rows))
        .mark_rule(strokeWidth=2, stroke=INK, opacity=0.6)
        .encode(altair.X("low:Q").scale(along.scale()), pixel_y("y"), x2="high:Q"),
        _text(rows, align="left", fill=INK).encode(pixel_x("text_x"), pixel_y("y"), text="shown:N"),
        _text(rows, align="right", fill=INK).encode(
            pixel_x("name_x"), pixel_y("y"), text="name:N", description="says:N"
        ),
    ]
    if headings:
        heads = [{"name": name, "x": -room - 4, "y": y} for name, y in headings]
        layers.append(
            _text(heads, align="left", fill=INK, fontWeight="bold").encode(
                pixel_x("x"), pixel_y("y"), text="name:N"
            )
        )
    return finished(layers, frame)


def _rows(picture: Picture) -> tuple[list[Bar], list[tuple[str, float]], float]:
    """Bars and headings with their places, and the height of all."""
    bars: list[Bar] = []
    headings: list[tuple[str, float]] = []
    y = 0.0
    several = len(picture.lines) > 1
    names = {x: named(picture.chart.x, x) for x in picture.xs}
    # The colour follows what tells the bars of a group from each other.
    looks = styles([(name,) for name in names.values()])
    for x, name in names.items():
        found = [(line, summary) for line in picture.lines if (summary := line.at(x)) is not None]
        if len(found) > 1:
            headings.append((name, y + HEADING / 2))
            y += HEADING
        for line, summary in found:
            told = label(line.key) if several else ""
            style = line.style if told else looks[(name,)]
            told = told if len(found) > 1 else label((name, told))
            bars.append(Bar(told, style, summary, y + ROW / 2))
            y += ROW
        y += 6 if several else 0
    return bars, headings, y


def _row(bar: Bar, unit: Scale, along: axis.Axis, frame: Frame, room: float) -> dict[str, Any]:
    summary = bar.summary
    reach = max(summary.median, summary.high) / unit.factor
    return {
        "name": clipped(bar.name, room),
        "says": bar.name,
        "colour": bar.style.colour,
        "shape": bar.style.shape,
        "value": summary.median / unit.factor,
        "low": summary.low / unit.factor,
        "high": summary.high / unit.factor,
        "shown": unit.number(summary.median),
        "y": bar.y,
        "top": bar.y - 7,
        "bottom": bar.y + 7,
        "text_x": along.at(reach) * frame.width + 8,
        "name_x": -8,
    }


def _bars(rows: list[dict[str, Any]], x: altair.X) -> altair.Chart:
    chart: altair.Chart = (
        altair.Chart(data(rows))
        .mark_rect(cornerRadiusEnd=2)
        .encode(
            x,
            pixel_y("top"),
            x2=altair.X2Datum(0),
            y2="bottom:Q",
            fill=altair.Fill("colour:N", scale=None),
            description="says:N",
        )
    )
    return chart


def _points(rows: list[dict[str, Any]], x: altair.X) -> altair.Chart:
    chart: altair.Chart = (
        altair.Chart(data(rows))
        .mark_point(filled=True, size=90, stroke=GROUND, strokeWidth=1, opacity=1)
        .encode(
            x,
            pixel_y("y"),
            fill=altair.Fill("colour:N", scale=None),
            shape=altair.Shape("shape:N", scale=None),
            description="says:N",
        )
    )
    return chart


def _text(rows: list[dict[str, Any]], **mark: Any) -> altair.Chart:
    chart: altair.Chart = altair.Chart(data(rows)).mark_text(
        baseline="middle", fontSize=SIZE, **mark
    )
    return chart
