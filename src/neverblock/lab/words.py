"""Numbers as people read them: three digits, with the prefix that fits."""

from collections.abc import Iterable
from typing import Final

#: From the largest: factor, and what it is called before a unit.
TIMES: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
BYTES: Final = ((1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"), (1.0, "B"))


def shown(value: float, unit: str) -> str:
    """With its unit: ``12.3 µs``, ``1.9 MiB``, ``90,300/s``, ``0.5 per request``."""
    base, _, per = unit.partition("/")
    after = {"": "", "s": "/s"}.get(per, f" per {per}")
    if base in ("s", "B"):
        factor, name = fitting(value, TIMES if base == "s" else BYTES)
        return f"{digits(value / factor)} {name}{after}"
    return f"{digits(value)}{after}"


def fitting(value: float, scales: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    for factor, name in scales:
        if abs(value) >= factor * 0.9995:
            return factor, name
    return scales[-1]


def digits(value: float) -> str:
    """Three of them, or all before the point."""
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}" if size < 10_000 else f"{float(f'{value:.3g}'):,.0f}"
    if size >= 9.995:
        return f"{value:.1f}".removesuffix(".0")
    if size >= 0.9995:
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{value:.2g}"


def times(ratio: float) -> str:
    """How many times as much: ``12 times``, ``1.3 times``."""
    return f"{ratio:,.0f} times" if ratio >= 9.5 else f"{ratio:.1f} times"


def listed(items: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
