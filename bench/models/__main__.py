"""The command `python -m bench.models`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench import machine
from bench.cli import PIPE_WIDTH, RESULTS
from bench.errors import BenchError, Unsupported
from bench.figures import Cell
from bench.models import report
from bench.models.measures import MEASURES, Measure
from bench.models.reach import climb
from bench.models.servers import MODELS
from bench.programs import built
from bench.rows import Settings
from bench.run import two_cores

EXAMPLES = """
\b
Examples:
  python -m bench.models                               every model, about nine minutes
  python -m bench.models --quick                       a first look, not a result
  python -m bench.models --models loop,thread --only 'echo 100' --only churn
  python -m bench.models --only reach                  how far each goes
  python -m bench.models --save models                 keep the result in bench/results/
"""

NAMES = (*(measure.name for measure in MEASURES), "reach")
#: Models that serve few at once by intent are not asked how far they go.
FAR = ("loop", "workers", "process", "thread")


def plan(models: list[str], measures: list[Measure], rounds: int) -> Iterator[tuple[Measure, str]]:
    """A round's models stand side by side; each round begins with another."""
    for number in range(rounds):
        for measure in measures:
            shift = number % len(models)
            for model in models[shift:] + models[:shift]:
                yield measure, model


def measure_all(run: report.Run, only: tuple[str, ...], console: Console) -> None:
    server_core, client_core = two_cores()
    if server_core == client_core:
        raise BenchError("the server and its clients need a core each; this machine has one")
    measures = [each for each in MEASURES if not only or each.name in only]
    run.cells = {each.name: {model: Cell() for model in run.models} for each in measures}
    steps = list(plan(run.models, measures, run.rounds)) if measures else []
    far = [model for model in run.models if model in FAR and (not only or "reach" in only)]
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
        settings = Settings(programs, server_core, client_core, run.quick)
        task = progress.add_task("", total=len(steps) + len(far))

        def tell(done: int, text: str) -> None:
            progress.update(task, completed=done, description=text)
            progress.refresh()

        for done, (measure, model) in enumerate(steps):
            tell(done, f"{measure.name}, {model}")
            if done % (len(measures) * len(run.models)) == 0:
                run.load.append(os.getloadavg()[0])
            cell = run.cells[measure.name][model]
            if cell.unsupported:
                continue
            try:
                cell.samples.append(measure.run(MODELS[model], settings))
            except Unsupported as error:
                cell.unsupported = str(error)
            except BenchError as error:
                cell.samples.append(None)
                cell.errors.append(f"round {len(cell.samples)}: {error}")
        for done, model in enumerate(far):
            tell(len(steps) + done, f"how far, {model}")
            run.reaches[model] = climb(MODELS[model], settings)
        run.load.append(os.getloadavg()[0])


@click.command(epilog=EXAMPLES)
@click.option(
    "--models",
    default=",".join(MODELS),
    show_default=True,
    help="Comma-separated; workers is the loop model with two workers.",
)
@click.option(
    "--only",
    type=click.Choice(NAMES),
    multiple=True,
    help="A measurement; repeatable.  [default: all]",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help="Rounds of all models in turn.  [default: 3, or 1 with --quick]",
)
@click.option("--quick", is_flag=True, help="One round, shorter, and up to 2,000 connections.")
@click.option(
    "--save",
    "save_as",
    metavar="NAME",
    help="Keep the result as bench/results/DATE-NAME.md and .json.",
)
def main(
    models: str, only: tuple[str, ...], rounds: int | None, quick: bool, save_as: str | None
) -> None:
    """Measure the server models side by side: `neverblock serve examples/echo.py:handle`.

    Each measurement has a server of its own, pinned to one core; the clients are the native ones,
    on another. The tables show medians and ± half the interquartile range.
    """
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    names = [name.strip() for name in models.split(",")]
    if unknown := [name for name in names if name not in MODELS]:
        raise click.UsageError(f"no model {unknown[0]!r}; there are {', '.join(MODELS)}")
    run = report.Run(
        started=datetime.now(),
        machine=machine.facts([]) | {"niceness": str(os.nice(0))},
        doubts=machine.doubts(),
        models=names,
        rounds=rounds or (1 if quick else 3),
        quick=quick,
        cells={},
    )
    try:
        measure_all(run, only, console)
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    report.show(run, console)
    if save_as:
        path = save(run, save_as)
        console.print(f"kept as {os.path.relpath(path)}", markup=False)
    if any(cell.errors for cells in run.cells.values() for cell in cells.values()):
        sys.exit(1)


def save(run: report.Run, name: str) -> Path:
    """Writes the dated record and report; returns the path of the report."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{run.started:%Y-%m-%d}-{name}.md"
    path.write_text(report.markdown(run))
    path.with_suffix(".json").write_text(json.dumps(report.record(run), indent=1) + "\n")
    return path


if __name__ == "__main__":
    main()
