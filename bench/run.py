"""The run: rounds over rows over loops, so that all loops of a row stand side by side in time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from bench.errors import BenchError, Unsupported
from bench.figures import Cell, Cells
from bench.loops import C_SERVER
from bench.rows import Row, Settings

Results = dict[str, Cells]


def loops_of(row: Row, loops: list[str]) -> list[str]:
    """The loops measured in a row: the bare C server only where it can be."""
    return [loop for loop in loops if loop != C_SERVER or row.with_c]


def plan(rows: list[Row], loops: list[str], rounds: int) -> Iterator[tuple[int, Row, str]]:
    """Every measurement in order; each round starts at another loop, so none is always first."""
    for number in range(rounds):
        for row in rows:
            if number >= (row.rounds or rounds):
                continue
            taking_part = loops_of(row, loops)
            shift = number % len(taking_part)
            for loop in taking_part[shift:] + taking_part[:shift]:
                yield number, row, loop


def measure(
    rows: list[Row],
    loops: list[str],
    rounds: int,
    settings: Settings,
    progress: Callable[[int, Row, str], None],
) -> Results:
    """Runs the whole plan; a loop that cannot run a row, or breaks in it, does not stop the rest.

    A break is recorded with its round and tried again in the next, since a loop that breaks now
    and then is a finding too.
    """
    results: Results = {row.name: {loop: Cell() for loop in loops_of(row, loops)} for row in rows}
    for number, row, loop in plan(rows, loops, rounds):
        cell = results[row.name][loop]
        if cell.unsupported:
            continue
        progress(number, row, loop)
        try:
            cell.samples.append(row.measure(loop, settings))
        except Unsupported as error:
            cell.unsupported = str(error)
        except BenchError as error:
            cell.samples.append(None)
            cell.errors.append(f"round {number + 1}: {error}")
    return results


def two_cores() -> tuple[int, int]:
    """The cores of the server and of its client: the last two this process may use.

    The first core of a machine handles most interrupts. On a single core both are the same.
    """
    cores = sorted(os.sched_getaffinity(0))
    return cores[-1], cores[-2] if len(cores) > 1 else cores[-1]
