"""Which way a metric is better: the one rule, for the report and for runs held against older ones.

A metric that is listed here is as it is listed. Any other is as its unit says: of a rate more is
better, a plain count is neither, and of all else (time, memory, work for each request) less is.
"""

from typing import Final, Literal, TypeAlias

#: 1: more is better; -1: less is better; 0: neither.
Direction: TypeAlias = Literal[1, -1, 0]

RATES: Final = frozenset({"1/s", "B/s"})
COUNT: Final = "1"

LISTED: Final[dict[str, Direction]] = {
    "clients answered": 1,
    "errors": -1,
    # What a backend is like, and not how good it is at it: more events in one wake-up are fewer
    # wake-ups.
    "descriptors handed in": 0,
    "descriptors looked at": 0,
    "events": 0,
}


def direction(metric: str, unit: str) -> Direction:
    """Which way a metric that is counted in this unit is better."""
    if metric in LISTED:
        return LISTED[metric]
    if unit in RATES:
        return 1
    return 0 if unit == COUNT else -1
