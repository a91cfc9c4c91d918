"""Numbers as people read them: three digits that count, in a unit that fits.

- A unit is written as in results.json: "s", "B", "1", "1/s", "s/request"; no prefixes.
- One table, one axis: one scale, so that numbers can be compared by eye.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor, log10
from statistics import median

PREFIXES = {
    "s": ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s")),
    "B": ((1.0, "B"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB")),
}
THOUSANDS = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"))


@dataclass(frozen=True, slots=True)
class Scale:
    """What one unit on paper is, in the unit measured."""

    factor: float
    label: str
    """"ms", "KiB per connection", "per second"; "" for a plain count."""

    def number(self, value: float) -> str:
        return number(value / self.factor)


def scale(unit: str, values: Iterable[float]) -> Scale:
    """The scale under which these values are neither tiny nor huge. Counts are never scaled."""
    base, _, per = unit.partition("/")
    sizes = [abs(value) for value in values if value]
    typical = median(sizes) if sizes else 0.0
    factor, prefixed = _fitting(PREFIXES.get(base, ((1.0, "" if base == "1" else base),)), typical)
    return Scale(factor, " ".join(filter(None, [prefixed, _per(per)])))


def _fitting(steps: tuple[tuple[float, str], ...], value: float) -> tuple[float, str]:
    """The largest unit that a value has one of, also as it will be rounded; for 0 the plain one."""
    if not value:
        return next(step for step in steps if step[0] == 1)
    reached = max(value, _rounded(value))
    return next((step for step in reversed(steps) if step[0] <= reached), steps[0])


def _rounded(value: float) -> float:
    """To three significant digits."""
    return float(f"{value:.3g}")


def _per(what: str) -> str:
    return f"per {'second' if what == 's' else what}" if what else ""


def shown(value: float, unit: str) -> str:
    """With its unit, the shortest way: "12.3 ms", "30.1 k/s", "3.4 KiB per connection"."""
    if unit == "1/s":
        factor, prefix = _fitting(THOUSANDS, abs(value))
        return f"{number(value / factor)}{' ' + prefix if prefix else ''}/s"
    fitting = scale(unit, [value])
    text = exact(value) if unit == "1" else fitting.number(value)
    return f"{text} {fitting.label}".rstrip()


def exact(value: float) -> str:
    """A count: whole where it is whole."""
    return f"{int(value):,}" if value == int(value) and abs(value) < 1e9 else number(value)


def setting(value: float) -> str:
    """What was set and not measured, as it was written: "0.1", "10,000"."""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:g}"


def number(value: float) -> str:
    """Three significant digits, thousands apart: "12,300", "1.02", "0.0041", "0"."""
    if value == 0:
        return "0"
    rounded = _rounded(value)
    decimals = max(0, 2 - floor(log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}" if decimals <= 6 else f"{rounded:.2e}"


def ticks(values: Iterable[float]) -> list[str]:
    """Those of an axis, thousands written in one way on all of it."""
    known = list(values)
    thousands = [value for value in known if abs(value) >= 1000]
    if any(value % 1000 for value in thousands) and max(map(abs, thousands)) < 1e4:
        return [f"{value:,.0f}" if value in thousands else tick(value) for value in known]
    return [tick(value) for value in known]


def tick(value: float) -> str:
    """Short, for axes: "0.1", "50", "10 k"."""
    for factor, prefix in reversed(THOUSANDS[1:]):
        # 1,024 is better known than 1.02 k.
        if abs(value) >= factor and (abs(value) >= 1e4 or value % 1000 == 0):
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def ratio(value: float) -> str:
    """How many times: "1.3", "12", "250"."""
    return f"{value:.2g}" if value < 10 else f"{float(f'{value:.2g}'):,.0f}"
