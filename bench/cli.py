"""The command `python -m bench`."""

from __future__ import annotations

import fnmatch
import json
import os
import sys
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench import echo, machine, memory, report, scheduling, watch
from bench.errors import BenchError, Unsupported
from bench.loops import C_SERVER, LOOPS, factory
from bench.programs import built
from bench.rows import Row, Settings
from bench.run import loops_of, measure, plan, two_cores

ROWS: list[Row] = [*scheduling.ROWS, *echo.ROWS, *memory.ROWS, *watch.ROWS]
PIPE_WIDTH = 132
RESULTS = Path(__file__).parent / "results"
EXAMPLES = """
\b
Examples:
  python -m bench                           every row on every loop, about twenty minutes
  python -m bench --quick                   the same in short form: a first look, not a result
  python -m bench --rows scheduling         one group
  python -m bench --rows 'timers*' --rows 'echo protocol 1*' --loops neverblock,rloop,C
  python -m bench --loops asyncio,neverblock:poll,neverblock:epoll --rows echo
  python -m bench --save release            keep the result in bench/results/
"""


def chosen_rows(patterns: tuple[str, ...]) -> list[Row]:
    for pattern in patterns:
        if not any(matches(row, pattern) for row in ROWS):
            raise click.BadParameter(f"no row or group is {pattern!r}; see --list")
    return [row for row in ROWS if not patterns or any(matches(row, each) for each in patterns)]


def matches(row: Row, pattern: str) -> bool:
    return row.group == pattern or fnmatch.fnmatchcase(row.name, pattern)


def available(names: list[str], console: Console) -> list[str]:
    """The loops that can be had; says why of the others."""
    found = []
    for name in names:
        try:
            if name != C_SERVER:
                factory(name)
        except Unsupported as error:
            console.print(f"without {name}: {error}", style="yellow", markup=False)
        else:
            found.append(name)
    return found


def list_rows(console: Console) -> None:
    for row in ROWS:
        bar = report.bar_text(row, {})
        console.print(f"{row.group:12}{row.name:42}{bar}", markup=False, highlight=False)


def run_rows(
    rows: list[Row], loops: list[str], rounds: int, quick: bool, console: Console
) -> report.Run:
    server_core, client_core = two_cores()
    doubts = machine.doubts()
    if server_core == client_core:
        console.print("without the echo rows: they need two cores", style="yellow")
        rows = [row for row in rows if not row.two_cores]
    rows = [row for row in rows if loops_of(row, loops)]
    started = datetime.now()
    facts = machine.facts(loops)
    steps = list(plan(rows, loops, rounds))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # No refreshing thread: nothing of ours runs while something is measured.
    with (
        built() as programs,
        Progress(*columns, console=console, auto_refresh=False, transient=True) as progress,
    ):
        task = progress.add_task("", total=len(steps))
        begun: set[int] = set()

        def step(number: int, row: Row, loop: str) -> None:
            done = steps.index((number, row, loop))
            text = f"round {number + 1}: {row.name}, {loop}"
            progress.update(task, completed=done, description=text)
            progress.refresh()
            if not console.is_terminal and number not in begun:
                begun.add(number)
                console.print(f"round {number + 1} of {rounds}", highlight=False)

        settings = Settings(programs, server_core, client_core, quick)
        results = measure(rows, loops, rounds, settings, step)
    return report.Run(started, facts, doubts, rows, loops, rounds, quick, results)


def save(run: report.Run, name: str) -> Path:
    """Writes the dated record and report; returns the path of the report."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{run.started:%Y-%m-%d}-{name}.md"
    path.write_text(report.markdown(run))
    path.with_suffix(".json").write_text(json.dumps(report.record(run), indent=1) + "\n")
    return path


@click.command(epilog=EXAMPLES)
@click.option(
    "--rows",
    "patterns",
    multiple=True,
    metavar="NAME",
    help="A row, a group (scheduling, echo, memory, watch) or a pattern; repeatable.  "
    "[default: all]",
)
@click.option(
    "--loops",
    default=",".join((*LOOPS, C_SERVER)),
    show_default=True,
    help="Comma-separated; neverblock:BACKEND is one backend of ours, C the bare C epoll server.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help="Rounds of all loops in turn.  [default: 7, or 3 with --quick]",
)
@click.option("--quick", is_flag=True, help="Shorter measurements and fewer connections.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every sample to this file.",
)
@click.option(
    "--save",
    "save_as",
    metavar="NAME",
    help="Keep the result as bench/results/DATE-NAME.md and .json.",
)
@click.option("--check", is_flag=True, help="Exit 1 when a bar is missed.")
@click.option("--list", "listing", is_flag=True, help="List the rows and their bars, run nothing.")
def main(
    patterns: tuple[str, ...],
    loops: str,
    rounds: int | None,
    quick: bool,
    json_path: Path | None,
    save_as: str | None,
    check: bool,
    listing: bool,
) -> None:
    """Measure event loops side by side.

    Each measurement runs in processes of its own, pinned to a core. Rounds go over all rows, and
    for each row over all loops, so that loops are compared at the same time. The table shows
    medians, ± half the interquartile range, and the ratio of neverblock to the best of its
    references (uvloop and rloop, or the bare C server), taken round by round.
    """
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if listing:
        list_rows(console)
        return
    rows = chosen_rows(patterns)
    names = available([name.strip() for name in loops.split(",") if name.strip()], console)
    if not names:
        raise click.UsageError("no loop left to measure")
    try:
        run = run_rows(rows, names, rounds or (3 if quick else 7), quick, console)
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    report.show(run, console)
    if json_path:
        json_path.write_text(json.dumps(report.record(run), indent=1) + "\n")
    if save_as:
        path = save(run, save_as)
        console.print(f"kept as {os.path.relpath(path)}", markup=False)
    missed = check and any(not found.passed for found in run.verdicts().values())
    if missed or run.errors():
        sys.exit(1)
