"""An axis: where it begins and ends, what it is marked with, where a value stands on it.

- It is computed here and given to Vega, so that labels can be placed beside what they name.
- A logarithmic axis that has to show 0 is linear below its smallest value (a symlog scale).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, log, log1p, log10
from typing import Literal

import altair


@dataclass(frozen=True, slots=True)
class Axis:
    kind: Literal["linear", "log", "symlog"]
    low: float
    high: float
    ticks: tuple[float, ...]
    constant: float = 1.0
    """Of a symlog axis: about where it begins to be logarithmic."""

    def at(self, value: float) -> float:
        """0 at its beginning, 1 at its end."""
        low, high = self._stretch(self.low), self._stretch(self.high)
        return (self._stretch(value) - low) / (high - low) if high > low else 0.5

    def _stretch(self, value: float) -> float:
        if self.kind == "log":
            return log(value)
        return log1p(value / self.constant) if self.kind == "symlog" else value

    def scale(self) -> altair.Scale:
        """The same for Vega."""
        return altair.Scale(
            type=self.kind,
            domain=[self.low, self.high],
            constant=self.constant if self.kind == "symlog" else altair.Undefined,
            nice=False,
            zero=False,
        )

    def spaced(self, length: float, size: float) -> list[float]:
        """The ticks whose labels, this long, do not touch; the outermost stay."""
        if len(self.ticks) < 2:
            return list(self.ticks)
        first, *middle, last = sorted(self.ticks)
        kept = [first]
        for value in middle:
            place = self.at(value) * length
            if place - self.at(kept[-1]) * length >= size <= self.at(last) * length - place:
                kept.append(value)
        return [*kept, last]


def of_values(values: Iterable[float], *, logarithmic: bool) -> Axis:
    """For what is measured: a linear axis begins at 0, a logarithmic one where its values do.

    Values below 0 have no logarithm: then it is linear.
    """
    known = sorted(value for value in values if value == value)
    low, high = (known[0], known[-1]) if known else (0.0, 1.0)
    if not logarithmic or high <= 0 or low < 0:
        return _linear(min(0.0, low), high)
    least = next(value for value in known if value > 0)
    if low > 0 and high < 1.5 * low:
        return _linear(0.0, high)
    begin, end = _round_down(least), _round_up(high)
    ticks = _marks(begin, end)
    if low > 0:
        return Axis("log", begin, end, ticks)
    return Axis("symlog", 0.0, end, (0.0, *ticks), least)


def of_settings(values: Iterable[float], *, logarithmic: bool) -> Axis:
    """For what was set: it is marked where measurements are."""
    known = sorted(set(values))
    low, high = known[0], known[-1]
    ticks = tuple(known) if len(known) <= 8 else ()
    if not logarithmic or high <= 0 or len(known) == 1:
        margin = (high - low) * 0.04 or abs(high) or 1.0
        return Axis("linear", low - margin, high + margin, ticks or _linear(low, high).ticks)
    least = next(value for value in known if value > 0)
    if low > 0:
        margin = (high / low) ** 0.04
        return Axis("log", low / margin, high * margin, ticks or _marks(low, high))
    constant = least / 4
    margin = (high / constant) ** 0.04
    return Axis(
        "symlog", -constant * 0.2, high * margin, ticks or (0.0, *_marks(least, high)), constant
    )


def _linear(low: float, high: float) -> Axis:
    reach = (high - low) or 1.0
    step = _round_up(reach / 5)
    end = ceil(high / step - 1e-9) * step or step
    begin = floor(low / step + 1e-9) * step
    count = round((end - begin) / step)
    return Axis(
        "linear", begin, end, tuple(float(f"{begin + step * n:.12g}") for n in range(count + 1))
    )


def _marks(begin: float, end: float) -> tuple[float, ...]:
    """Powers of ten where there are three of them, else 1, 2 and 5 as well."""
    first, last = floor(log10(begin) + 1e-9), ceil(log10(end) - 1e-9)
    tens = [10.0**power for power in range(first, last + 1)]
    whole = [ten for ten in tens if begin <= ten * 1.0001 and ten <= end * 1.0001]
    if len(whole) >= 3:
        return tuple(map(_clean, whole))
    steps = [ten * part for ten in tens for part in (1, 2, 5)]
    return tuple(_clean(step) for step in steps if begin <= step * 1.0001 and step <= end * 1.0001)


def _clean(value: float) -> float:
    return float(f"{value:.6g}")


def _round_down(value: float) -> float:
    ten = 10.0 ** floor(log10(value) + 1e-9)
    return _clean(next(ten * part for part in (5, 2, 1) if ten * part <= value * (1 + 1e-9)))


def _round_up(value: float) -> float:
    ten = 10.0 ** floor(log10(value) + 1e-9)
    return _clean(next(ten * part for part in (1, 2, 5, 10) if ten * part >= value * (1 - 1e-9)))
