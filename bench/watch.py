"""What the watch costs: the same work watched and not, in turn, within one measurement.

The value is a ratio, so that the machine's mood is the same on both sides: each side is measured
twice, in the order off, on, on, off. Only our own loop has a watch.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from bench import echo, scheduling
from bench.errors import Unsupported
from bench.loops import OURS, WATCHED
from bench.rows import Bar, Row, Sample, Settings

Measure = Callable[[str, Settings], Sample]


def compared(measure: Measure) -> Measure:
    """The value with the watch, over the value without."""

    def both(loop: str, settings: Settings) -> Sample:
        if loop.partition(":")[0] != OURS:
            raise Unsupported("it has no watch")
        sides: dict[str, list[Sample]] = {"": [], WATCHED: []}
        for suffix in ("", WATCHED, WATCHED, ""):
            sides[suffix].append(measure(loop + suffix, settings))
        off, on = (fmean(sample.value for sample in sides[side]) for side in sides)
        notes = {note for samples in sides.values() for each in samples for note in each.notes}
        return Sample(on / off, {"off": off, "on": on}, tuple(sorted(notes)))

    return both


def row(name: str, measure: Measure, limit: float, *, more_is_better: bool) -> Row:
    return Row(
        name=name,
        group="watch",
        unit="\N{MULTIPLICATION SIGN}",
        measure=compared(measure),
        more_is_better=more_is_better,
        references=(),
        bar=Bar("value", limit),
        two_cores=not more_is_better,
    )


KIB = 1024

ROWS = [
    row(
        "call_soon chain, watched / not",
        scheduling.measurement("call_soon chain"),
        0.98,
        more_is_better=True,
    ),
    row(
        "call_soon batch, watched / not",
        scheduling.measurement("call_soon batch"),
        0.98,
        more_is_better=True,
    ),
    row(
        "echo CPU, 64, watched / not",
        echo.measurement("protocol", connections=64, size=KIB),
        1.01,
        more_is_better=False,
    ),
    row(
        "echo CPU, 1, watched / not",
        echo.measurement("protocol", connections=1, size=KIB),
        1.01,
        more_is_better=False,
    ),
]
