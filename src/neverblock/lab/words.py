"""Numbers and lists in sentences."""

from collections.abc import Iterable

from neverblock.lab.report.units import shown

__all__ = ["listed", "shown", "times"]


def times(ratio: float) -> str:
    """How many times as much: ``12 times``, ``1.3 times``."""
    return f"{ratio:,.0f} times" if ratio >= 9.5 else f"{ratio:.1f} times"


def listed(items: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
