"""What the watch costs: the same work watched and not, in turn, within one measurement.

The value is a ratio, so that the machine's mood is the same on both sides. Scheduling is measured
twice on each, in the order off, on, on, off. Of the echo both servers live at the same time and are
loaded in turn for a short while, again and again; beside the ratio, `own` is the share of the
watched server's CPU time that the watch's threads took. Only our own loop has a watch.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, median

from bench import echo, scheduling
from bench.errors import Unsupported
from bench.loops import OURS, WATCHED
from bench.processes import serving
from bench.rows import Bar, Row, Sample, Settings

Measure = Callable[[str, Settings], Sample]

KIB = 1024
#: How often each server is loaded.
TURNS = 16


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


def echoes(connections: int) -> Measure:
    """CPU time of an echo with the watch, over that of one without."""

    def both(loop: str, settings: Settings) -> Sample:
        if loop.partition(":")[0] != OURS:
            raise Unsupported("it has no watch")
        core = settings.server_core
        with (
            serving(loop, "protocol", settings.programs, core=core) as off,
            serving(loop + WATCHED, "protocol", settings.programs, core=core) as on,
        ):
            sides = {"off": off, "on": on}
            pairs = []
            for number in range(2 if settings.quick else TURNS):
                order = sorted(sides, reverse=bool(number % 2))
                pairs.append(
                    {
                        side: echo.loaded(sides[side], settings, 0.1, 0.4, connections, KIB)
                        for side in order
                    }
                )
            own = on.cpu_ns("nb-watch") / max(on.cpu_ns(), 1)
        ratio = median(pair["on"].value / pair["off"].value for pair in pairs)
        means = {side: fmean(pair[side].value for pair in pairs) for side in sides}
        notes = {note for pair in pairs for each in pair.values() for note in each.notes}
        return Sample(ratio, {**means, "own": own}, tuple(sorted(notes)))

    return both


def row(name: str, measure: Measure, limit: float, *, more_is_better: bool) -> Row:
    return Row(
        name=name,
        group="watch",
        unit="\N{MULTIPLICATION SIGN}",
        measure=measure,
        more_is_better=more_is_better,
        references=(),
        bar=Bar("value", limit),
        two_cores=not more_is_better,
    )


ROWS = [
    row(
        "call_soon chain, watched / not",
        compared(scheduling.measurement("call_soon chain")),
        0.98,
        more_is_better=True,
    ),
    row(
        "call_soon batch, watched / not",
        compared(scheduling.measurement("call_soon batch")),
        0.98,
        more_is_better=True,
    ),
    row(
        "echo CPU, 64, watched / not",
        echoes(64),
        1.01,
        more_is_better=False,
    ),
    row(
        "echo CPU, 1, watched / not",
        echoes(1),
        1.01,
        more_is_better=False,
    ),
]
