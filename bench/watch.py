"""What the watch costs, and the guard: the same work with it and without, in turn.

The value is a ratio, so that the machine's mood is the same on both sides. Scheduling is measured
twice on each, in the order off, on, on, off. Of the echo both servers live at the same time and are
loaded in turn for a short while, again and again; beside the ratio, `own` is the share of the
watched server's CPU time that the watch's threads took. Only our own loop has a watch; the guard
is for any.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, median

from bench import echo, scheduling
from bench.errors import Unsupported
from bench.loops import GUARDED, OURS, WATCHED
from bench.processes import serving
from bench.rows import Bar, Row, Sample, Settings

Measure = Callable[[str, Settings], Sample]

KIB = 1024
#: How often each server is loaded.
TURNS = 16


#: What stands behind the name of a loop that is watched, or guarded.
WORDS = {WATCHED: "watched / not", GUARDED: "guarded / not"}


def check(loop: str, how: str) -> None:
    if how == WATCHED and loop.partition(":")[0] != OURS:
        raise Unsupported("it has no watch")


def compared(workload: str, how: str) -> Measure:
    """The value with it, over the value without."""
    measure = scheduling.measurement(workload)

    def both(loop: str, settings: Settings) -> Sample:
        check(loop, how)
        sides: dict[str, list[Sample]] = {"": [], how: []}
        for suffix in ("", how, how, ""):
            sides[suffix].append(measure(loop + suffix, settings))
        off, on = (fmean(sample.value for sample in sides[side]) for side in sides)
        notes = {note for samples in sides.values() for each in samples for note in each.notes}
        return Sample(on / off, {"off": off, "on": on}, tuple(sorted(notes)))

    return both


def echoes(connections: int, how: str) -> Measure:
    """CPU time of an echo with it, over that of one without."""

    def both(loop: str, settings: Settings) -> Sample:
        check(loop, how)
        core = settings.server_core
        with (
            serving(loop, "protocol", settings.programs, core=core) as off,
            serving(loop + how, "protocol", settings.programs, core=core) as on,
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


def row(name: str, how: str, measure: Measure, limit: float) -> Row:
    more_is_better = limit < 1
    return Row(
        name=f"{name}, {WORDS[how]}",
        group="watch",
        unit="\N{MULTIPLICATION SIGN}",
        measure=measure,
        more_is_better=more_is_better,
        references=(),
        bar=Bar("value", limit),
        two_cores=not more_is_better,
    )


ROWS = [
    row("call_soon chain", WATCHED, compared("call_soon chain", WATCHED), 0.98),
    row("call_soon batch", WATCHED, compared("call_soon batch", WATCHED), 0.98),
    row("echo CPU, 64", WATCHED, echoes(64, WATCHED), 1.01),
    row("echo CPU, 1", WATCHED, echoes(1, WATCHED), 1.01),
    row("call_soon chain", GUARDED, compared("call_soon chain", GUARDED), 0.98),
    row("echo CPU, 64", GUARDED, echoes(64, GUARDED), 1.02),
]
