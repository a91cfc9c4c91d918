"""A line chart: a median at each point, its spread as a bar, names at the ends of the lines."""

from __future__ import annotations

from typing import Any

import altair

from neverblock.lab.report import axis, units
from neverblock.lab.report.drawing import (
    GROUND,
    INK,
    MUTED,
    SIZE,
    Frame,
    clipped,
    data,
    finished,
    pixel_x,
    pixel_y,
    spread_out,
    ticks,
    titled,
    unit_of,
    width_of,
)
from neverblock.lab.report.series import Line, Picture, number_of
from neverblock.lab.report.units import Scale, scale, shown, tick

#: Between the middles of two names, one above the other.
GAP = 16.0
LEADER = 16.0


def line_chart(picture: Picture, width: float) -> dict[str, Any]:
    """For Vega-Lite. The lines' places are numbers."""
    unit = value_scale(picture)
    values = [
        value / unit.factor
        for summary in picture.summaries
        for value in (summary.median, summary.low, summary.high)
    ]
    across = axis.of_settings(map(number_of, picture.xs), logarithmic=picture.chart.log_x)
    up = axis.of_values(values, logarithmic=picture.chart.log_y)
    marks = units.ticks(up.ticks)
    named = len(picture.lines) > 1
    room = min(width * 0.36, width_of(line.name for line in picture.lines)) if named else 0
    left = width_of(marks) + 8
    right = LEADER + 6 + room if named else 16
    frame = Frame(
        width=width - left - right,
        height=max(width * 0.46, 200.0, GAP * len(picture.lines)),
        left=left,
        right=right,
        top=30,
        bottom=44,
    )
    kept = across.spaced(frame.width, width_of(units.ticks(across.ticks)) + 4)
    x = altair.X("x:Q").scale(across.scale()).title(titled(picture.chart.x, across))
    x = x.axis(ticks(kept, units.ticks(kept), grid=False, tickSize=4, titlePadding=6))
    y = altair.Y("y:Q").scale(up.scale()).title(None)
    y = y.axis(ticks(up.ticks, marks, domain=False, ticks=False, labelPadding=8))
    points = [point for line in picture.lines for point in _points(line, unit)]
    layers = [
        _base(points).mark_line(strokeWidth=2, strokeJoin="round").encode(
            x, y, strokeDash=altair.StrokeDash("dash:N", scale=None), detail="name:N"
        ),
        _base(points).mark_rule(strokeWidth=3, opacity=0.45).encode(
            x, altair.Y("low:Q").scale(up.scale()), y2="high:Q"
        ),
        altair.Chart(data(points))
        .mark_point(filled=True, size=52, stroke=GROUND, strokeWidth=1, opacity=1)
        .encode(
            x,
            y,
            fill=altair.Fill("colour:N", scale=None),
            shape=altair.Shape("shape:N", scale=None),
            description="says:N",
        ),
    ]  # fmt: skip
    corner = [{"x": -left, "y": -18, "text": unit_of(unit, up)}]
    layers.append(
        altair.Chart(data(corner))
        .mark_text(align="left", baseline="middle", fontSize=SIZE, fill=MUTED)
        .encode(pixel_x("x"), pixel_y("y"), text="text:N")
    )
    if named:
        layers += _names(picture, unit, across, up, frame, room)
    return finished(layers, frame)


def value_scale(picture: Picture) -> Scale:
    """Rates are not scaled: their ticks say "10 k" by themselves."""
    medians = [summary.median for summary in picture.summaries]
    return scale(picture.chart.unit, medians)


def _base(rows: list[dict[str, Any]]) -> altair.Chart:
    return altair.Chart(data(rows)).encode(stroke=altair.Stroke("colour:N", scale=None))


def _points(line: Line, unit: Scale) -> list[dict[str, Any]]:
    return [
        {
            "name": line.name,
            "colour": line.style.colour,
            "dash": list(line.style.dashes),
            "shape": line.style.shape,
            "x": point.x,
            "y": point.summary.median / unit.factor,
            "low": point.summary.low / unit.factor,
            "high": point.summary.high / unit.factor,
            "says": f"{line.name}, {tick(number_of(point.x))}: "
            f"{shown(point.summary.median, point.summary.unit)}",
        }
        for point in line.points
    ]


def _names(
    picture: Picture, unit: Scale, across: axis.Axis, up: axis.Axis, frame: Frame, room: float
) -> list[altair.Chart]:
    """Names stand apart from each other; each is led to its line's last point."""
    ends = [line.points[-1] for line in picture.lines]
    xs = [across.at(number_of(end.x)) * frame.width for end in ends]
    ys = [(1 - up.at(end.summary.median / unit.factor)) * frame.height for end in ends]
    places = spread_out(ys, GAP, 4, frame.height - 4)
    rows = [
        {
            "name": clipped(line.name, room),
            "colour": line.style.colour,
            "dash": list(line.style.dashes),
            "from_x": x + 6,
            "from_y": y,
            "to_x": frame.width + LEADER,
            "to_y": place,
            "text_x": frame.width + LEADER + 4,
            "says": line.name,
        }
        for line, x, y, place in zip(picture.lines, xs, ys, places, strict=True)
    ]
    leader = _base(rows).mark_rule(strokeWidth=1, opacity=0.7, strokeDash=[1, 2])
    text = altair.Chart(data(rows)).mark_text(
        align="left", baseline="middle", fontSize=SIZE, fill=INK
    )
    return [
        leader.encode(pixel_x("from_x"), pixel_y("from_y"), x2="to_x:Q", y2="to_y:Q"),
        text.encode(pixel_x("text_x"), pixel_y("to_y"), text="name:N", description="says:N"),
    ]
