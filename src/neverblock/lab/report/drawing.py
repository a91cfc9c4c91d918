"""What all charts share: sizes, fonts, ink; from an Altair chart to an SVG that a page can hold.

- Places are computed here, not left to Vega: a chart is exactly as wide as it was asked to be.
- Widths of text are estimated on the wide side: which font a reader has is not known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import altair

from neverblock.lab.report.axis import Axis
from neverblock.lab.report.units import Scale

FONT = "system-ui, sans-serif"
SIZE = 12
#: Of one character, on average; DejaVu Sans is about the widest that is common.
CHARACTER = 7.0
INK, MUTED, GRID, GROUND = "var(--ink)", "var(--muted)", "var(--grid)", "var(--ground)"


@dataclass(frozen=True, slots=True)
class Frame:
    """Pixels: the part that is drawn in, and the room around it."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float


def width_of(texts: Iterable[str]) -> float:
    return max((len(text) for text in texts), default=0) * CHARACTER


def clipped(text: str, room: float) -> str:
    """As much of a text as the room has place for."""
    most = max(4, int(room / CHARACTER))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def spread_out(wanted: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """Places a gap apart or more, in the order of those wanted, and as near to them as can be."""
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    # Neighbours that are too near move as one block, around the middle of what they want.
    blocks: list[tuple[float, int]] = []  # (middle, how many)
    for n in order:
        middle, count = wanted[n], 1
        while blocks:
            before, many = blocks[-1]
            if middle - before >= (count + many) / 2 * gap:
                break
            blocks.pop()
            middle = (before * many + middle * count) / (many + count)
            count += many
        blocks.append((middle, count))
    places = [
        middle + (n - (count - 1) / 2) * gap for middle, count in blocks for n in range(count)
    ]
    for n in range(len(places)):
        places[n] = max(places[n], top + n * gap)
    for n in range(len(places)):
        places[-1 - n] = min(places[-1 - n], bottom - n * gap)
    found = [0.0] * len(wanted)
    for n, place in zip(order, places, strict=True):
        found[n] = place
    return found


def data(rows: list[dict[str, Any]]) -> altair.InlineData:
    return altair.InlineData(values=rows)


def ticks(values: Sequence[float], texts: Sequence[str], **more: Any) -> altair.Axis:
    """An axis marked at these values, with these texts."""
    # Vega hands a value on as it computed it, which is not always to the last bit what it got.
    expression = "''"
    for value, text in zip(values, texts, strict=True):
        near = f"abs(datum.value - {value!r}) <= {abs(value) * 1e-6!r}"
        expression = f"{near} ? {json.dumps(text)} : {expression}"
    return altair.Axis(values=list(values), labelExpr=expression, labelOverlap=False, **more)


def titled(text: str, along: Axis) -> str:
    return text if along.kind == "linear" else f"{text} (logarithmic)"


def unit_of(unit: Scale, along: Axis) -> str:
    """What an axis counts, for its title."""
    return titled(unit.label or "count", along)


def pixel_x(field: str) -> altair.X:
    return altair.X(f"{field}:Q", scale=None, axis=None)


def pixel_y(field: str) -> altair.Y:
    return altair.Y(f"{field}:Q", scale=None, axis=None)


def finished(layers: Sequence[altair.Chart], frame: Frame) -> dict[str, Any]:
    chart = altair.layer(*layers).properties(width=frame.width, height=frame.height)
    chart = chart.configure(
        autosize="none",
        background="transparent",
        padding={
            "left": frame.left,
            "right": frame.right,
            "top": frame.top,
            "bottom": frame.bottom,
        },
        font=FONT,
    )
    chart = chart.configure_view(stroke=None).configure_axis(
        labelColor=MUTED,
        labelFontSize=SIZE,
        titleColor=MUTED,
        titleFontSize=SIZE,
        titleFontWeight="normal",
        gridColor=GRID,
        tickColor=MUTED,
        domainColor=MUTED,
    )
    found: dict[str, Any] = chart.to_dict()
    return found
