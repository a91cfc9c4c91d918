"""What the watch costs, and the guard: the same work with it and without, in turn.

The value is a ratio, the median of many that are taken one after the other, so that the machine's
mood is the same on both sides of each. Scheduling is measured in pairs, on and off, off and on. Of
the echo three servers live at the same time, one with it and two without, and are loaded in turn
for a short while, again and again. Beside the ratio, `control` is that of the two without: how far
from 1 the machine alone brings a ratio; and `own` is the share of the watched server's CPU time
that the watch's threads took. Only our own loop has a watch; the guard is for any.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from statistics import fmean, median

from bench import echo, scheduling
from bench.errors import Unsupported
from bench.loops import GUARDED, OURS, WATCHED
from bench.processes import serving
from bench.rows import Bar, Row, Sample, Settings

Measure = Callable[[str, Settings], Sample]

KIB = 1024
#: How often scheduling is measured on both sides.
PAIRS = 12
#: How often each server is loaded, and for how long: before it is measured, and then.
TURNS = 24
LEAD, SECONDS = 0.05, 0.25


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
        pairs = []
        for number in range(2 if settings.quick else PAIRS):
            order = rotated([loop, loop + how], number)
            pairs.append({kind: measure(kind, settings) for kind in order})
        ratio = median(pair[loop + how].value / pair[loop].value for pair in pairs)
        off, on = (fmean(pair[kind].value for pair in pairs) for kind in (loop, loop + how))
        notes = {note for pair in pairs for each in pair.values() for note in each.notes}
        return Sample(ratio, {"off": off, "on": on}, tuple(sorted(notes)))

    return both


def echoes(connections: int, how: str) -> Measure:
    """CPU time of an echo with it, over that of one without."""

    def both(loop: str, settings: Settings) -> Sample:
        check(loop, how)
        core = settings.server_core
        kinds = {"off": loop, "on": loop + how, "again": loop}
        with ExitStack() as stack:
            sides = {
                side: stack.enter_context(serving(kind, "protocol", settings.programs, core=core))
                for side, kind in kinds.items()
            }
            turns = []
            for number in range(2 if settings.quick else TURNS):
                order = rotated(list(sides), number)
                turns.append(
                    {
                        side: echo.loaded(sides[side], settings, LEAD, SECONDS, connections, KIB)
                        for side in order
                    }
                )
            own = sides["on"].cpu_ns("nb-watch") / max(sides["on"].cpu_ns(), 1)
        costs = [{side: sample.value for side, sample in turn.items()} for turn in turns]
        ratio = median(2 * cost["on"] / (cost["off"] + cost["again"]) for cost in costs)
        control = median(cost["again"] / cost["off"] for cost in costs)
        means = {side: fmean(cost[side] for cost in costs) for side in ("off", "on")}
        notes = {note for turn in turns for each in turn.values() for note in each.notes}
        return Sample(ratio, {**means, "control": control, "own": own}, tuple(sorted(notes)))

    return both


def rotated(items: list[str], number: int) -> list[str]:
    """In an order of its own each time: each is first, second and third as often as the others."""
    start = number % len(items)
    turned = items[start:] + items[:start]
    return turned[::-1] if number // len(items) % 2 else turned


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
