"""Numbers and lists in sentences."""

from collections.abc import Iterable

from neverblock.lab.report.units import shown

__all__ = ["counted", "listed", "often", "percent", "shown", "times"]


def times(ratio: float) -> str:
    """How many times as much: ``12 times``, ``1.3 times``."""
    return f"{ratio:,.0f} times" if ratio >= 9.5 else f"{ratio:.1f} times"


def often(count: float) -> str:
    """How many times something happened: ``once``, ``twice``, ``12 times``."""
    return {1: "once", 2: "twice"}.get(round(count), f"{count:,.0f} times")


def counted(count: float, what: str) -> str:
    """``1 client``, ``10,000 clients``."""
    return f"{count:,.0f} {what}{'' if count == 1 else 's'}"


def percent(share: float) -> str:
    """What was set, as it was meant: ``10%``, ``0.5%``."""
    return f"{share * 100:,.6g}%"


def listed(items: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
