"""The soak: a million connections made, echoed on and closed, and no growth.

    python -m bench.soak [--cycles N] [--kind protocol|streams] [--loop neverblock]

The server runs in a process of its own; resident memory and open descriptors are read while the
client works. After a first part of the cycles, which fills caches and the allocator's pools, the
lowest memory of the next part is the base; the end may be above it by no more than an allowance,
and no descriptor may be left. Every second client half-closes, the others close at once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.errors import BenchError
from bench.loops import OURS
from bench.processes import Server, environment, serving
from bench.programs import built

MIB = 1024 * 1024
ALLOWANCE = MIB
FILLING = 0.2
REPORTS = 200
LINES = 20
CLOSE_TIMEOUT = 10.0


@dataclass(frozen=True)
class Reading:
    """The server after so many cycles; memory in bytes."""

    cycles: int
    resident: int
    descriptors: int


@contextmanager
def churning(server: Server, programs: Path, cycles: int) -> Iterator[subprocess.Popen[str]]:
    command = [
        str(programs / "load_churn"),
        *("--connect", server.address),
        *("--cycles", str(cycles)),
        *("--reports", str(REPORTS)),
    ]
    client = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield client
        if client.wait():
            raise BenchError(client.stderr.read().strip())
    finally:
        client.kill()
        client.communicate()


def soak(server: Server, programs: Path, cycles: int) -> Iterator[Reading]:
    """Readings during the cycles, and a last one when the server closed what it had."""
    descriptors = server.descriptors()
    yield Reading(0, server.resident_bytes(), descriptors)
    with churning(server, programs, cycles) as client:
        for line in client.stdout:
            yield Reading(int(line), server.resident_bytes(), server.descriptors())
    server.wait_descriptors(descriptors, CLOSE_TIMEOUT)
    server.collect_garbage()
    yield Reading(cycles, server.resident_bytes(), server.descriptors())


def judge(readings: list[Reading]) -> list[str]:
    """What grew; empty when nothing did."""
    first, last = readings[0], readings[-1]
    filled = [each for each in readings if FILLING <= each.cycles / last.cycles <= 2 * FILLING]
    base = min(filled or readings[-2:], key=lambda reading: reading.resident)
    found = []
    if last.descriptors > first.descriptors:
        found.append(f"{last.descriptors - first.descriptors} descriptors left open")
    if (growth := last.resident - base.resident) > ALLOWANCE:
        each = growth / max(last.cycles - base.cycles, 1)
        found.append(f"memory grew by {growth / MIB:.1f} MiB, {each:.1f} bytes a cycle")
    return found


def show_line(console: Console, reading: Reading) -> None:
    memory = f"{reading.resident / MIB:.1f} MiB resident"
    console.print(
        f"{reading.cycles:>9,} cycles  {memory}  {reading.descriptors} descriptors",
        highlight=False,
    )


def run_kind(loop: str, kind: str, cycles: int, programs: Path, console: Console) -> list[str]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    readings = []
    begun = time.monotonic()
    console.print(f"{kind} server on {loop}, {cycles:,} cycles", style="bold", highlight=False)
    with (
        serving(loop, kind, programs) as server,
        Progress(*columns, console=console, auto_refresh=False, transient=True) as progress,
    ):
        task = progress.add_task(kind, total=cycles)
        for reading in soak(server, programs, cycles):
            if len(readings) % (REPORTS // LINES) == 0 and reading.cycles < cycles:
                show_line(console, reading)
            readings.append(reading)
            progress.update(task, completed=reading.cycles)
            progress.refresh()
    show_line(console, readings[-1])
    rate = cycles / (time.monotonic() - begun)
    found = judge(readings)
    for growth in found:
        console.print(f"{kind}: {growth}", style="bold red", highlight=False)
    console.print(f"{kind}: {'GROWTH' if found else 'no growth'}, {rate:,.0f} cycles a second")
    return found


@click.command()
@click.option("--cycles", type=click.IntRange(100), default=1_000_000, show_default=True)
@click.option("--loop", default=OURS, show_default=True, help="The loop that serves.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["protocol", "streams", "sock"]),
    default=("protocol", "streams"),
    help="The kind of server; repeatable. The cycles are shared out.  [default: protocol, streams]",
)
def main(cycles: int, loop: str, kinds: tuple[str, ...]) -> None:
    """Connect, echo and close, over and over; exit 1 when memory or descriptors grow."""
    console = Console()
    grown = []
    try:
        with built() as programs:
            for kind in kinds:
                grown += run_kind(loop, kind, cycles // len(kinds), programs, console)
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    main()
