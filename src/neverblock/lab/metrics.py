"""Which way a metric is better, for comparing a run with an older one."""

from typing import Final

#: More of it is better.
MORE: Final = frozenset({"throughput", "clients answered"})
#: Neither is: what a way to serve is like, not how good it is at it.
NEITHER: Final = frozenset(
    {
        "calls that blocked",
        "client busy",
        "connections queued",
        "served at once",
        "stalls told with the line",
        "processes",
        "threads",
        "events",
        "descriptors handed in",
        "descriptors looked at",
    }
)


def direction(metric: str) -> int:
    """1: more is better; -1: less is better; 0: neither."""
    return 0 if metric in NEITHER else 1 if metric in MORE else -1
