"""A grid: a row for each line, a column for each place; the better a value, the fuller its cell.

- How good is said in numbers too: as a share of the best of the column.
"""

from __future__ import annotations

from typing import Any

import altair

from neverblock.lab.metrics import direction
from neverblock.lab.report.drawing import (
    INK,
    MUTED,
    SIZE,
    Frame,
    clipped,
    data,
    finished,
    pixel_x,
    pixel_y,
    width_of,
)
from neverblock.lab.report.series import Picture, named, number_of
from neverblock.lab.report.units import scale, setting, shown
from neverblock.lab.results import Scalar

ROW = 44.0
#: Ink is read well on a colour of this strength, in the light and the dark.
FULL = 0.4


def grid_chart(picture: Picture, width: float) -> dict[str, Any]:
    """For Vega-Lite."""
    xs = picture.xs
    title = picture.chart.x if picture.numeric else ""
    room = min(width * 0.3, width_of([title, *(line.name for line in picture.lines)]))
    frame = Frame(
        width=width - room - 14,
        height=ROW * len(picture.lines),
        left=room + 12,
        right=2,
        top=24,
        bottom=26,
    )
    column = frame.width / len(xs)
    unit = scale(picture.chart.unit, [each.median for each in picture.summaries])
    cells = _cells(picture, xs, column)
    heads = [
        {"x": (n + 0.5) * column, "y": -12, "text": clipped(named(picture.chart.x, x), column)}
        for n, x in enumerate(xs)
    ]
    if picture.numeric:
        # What the numbers count stands once, before them.
        for head, x in zip(heads, xs, strict=True):
            head["text"] = setting(number_of(x))
    names = [
        {"x": -8, "y": (n + 0.5) * ROW, "text": clipped(line.name, room), "says": line.name}
        for n, line in enumerate(picture.lines)
    ]
    corners = [
        {"x": frame.width, "y": frame.height + 16, "text": unit.label or "count"},
        {"x": -8, "y": -12, "text": clipped(title, room) if title else ""},
    ]
    return finished(
        [
            altair.Chart(data(cells))
            .mark_rect(cornerRadius=3, fill="var(--c0)")
            .encode(
                pixel_x("left"),
                pixel_y("top"),
                x2="right:Q",
                y2="bottom:Q",
                fillOpacity=altair.FillOpacity("strength:Q", scale=None),
                description="says:N",
            ),
            _text(
                [cell for cell in cells if cell["share"] >= 1], fill=INK, fontWeight="bold"
            ).encode(pixel_x("x"), pixel_y("value_y"), text="shown:N"),
            _text([cell for cell in cells if cell["share"] < 1], fill=INK).encode(
                pixel_x("x"), pixel_y("value_y"), text="shown:N"
            ),
            _text(cells, fill=INK).encode(pixel_x("x"), pixel_y("share_y"), text="part:N"),
            _text(heads, fill=MUTED).encode(pixel_x("x"), pixel_y("y"), text="text:N"),
            _text(names, fill=INK, align="right").encode(
                pixel_x("x"), pixel_y("y"), text="text:N", description="says:N"
            ),
            _text(corners, fill=MUTED, align="right").encode(
                pixel_x("x"), pixel_y("y"), text="text:N"
            ),
        ],
        frame,
    )


def _cells(picture: Picture, xs: list[Scalar], column: float) -> list[dict[str, Any]]:
    unit = scale(picture.chart.unit, [each.median for each in picture.summaries])
    higher = direction(picture.chart.metric, picture.chart.unit) >= 0
    cells = []
    for across, x in enumerate(xs):
        found = [(down, line, line.at(x)) for down, line in enumerate(picture.lines)]
        medians = [each.median for _, _, each in found if each is not None]
        best = max(medians) if higher else min(medians)
        for down, line, summary in found:
            if summary is None:
                continue
            one, other = (summary.median, best) if higher else (best, summary.median)
            share = one / other if other else 1.0
            value = shown(summary.median, summary.unit)
            cells.append(
                {
                    "left": across * column + 1,
                    "right": (across + 1) * column - 1,
                    "top": down * ROW + 1,
                    "bottom": (down + 1) * ROW - 1,
                    "x": (across + 0.5) * column,
                    "value_y": down * ROW + 15,
                    "share_y": down * ROW + 31,
                    "share": share,
                    "strength": FULL * share,
                    "shown": unit.number(summary.median),
                    "part": "best" if share >= 1 else f"{share:.0%}",
                    "says": f"{line.name}, {named(picture.chart.x, x)}: {value}",
                }
            )
    return cells


def _text(rows: list[dict[str, Any]], **mark: Any) -> altair.Chart:
    chart: altair.Chart = altair.Chart(data(rows)).mark_text(
        baseline="middle", fontSize=SIZE, **mark
    )
    return chart
