"""What a comparison shows in the terminal: how far it is, the medians, what is missing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from neverblock.lab import words
from neverblock.lab.baseline import Change
from neverblock.lab.experiment import Case, Experiment
from neverblock.lab.order import Level, Pair
from neverblock.lab.report.words import setting
from neverblock.lab.results import CaseKey, Results, Summary, in_order, key, summaries
from neverblock.lab.run import Run, Step

#: Of a console that is no terminal: a log, a pipe.
WIDTH = 120
#: Changes that are listed; the rest is counted.
LISTED = 20


def console() -> Console:
    made = Console(stderr=False, highlight=False)
    return made if made.is_terminal else Console(width=WIDTH, highlight=False)


def name(case: Case | CaseKey) -> str:
    """A case in one line: texts as they are, numbers with their names."""
    items = case.items() if isinstance(case, Mapping) else case
    words_first = sorted(items, key=lambda item: not isinstance(item[1], str))
    return ", ".join(
        value if isinstance(value, str) else f"{number(value)} {label}"
        for label, value in words_first
    )


def number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


@contextmanager
def progress(run: Run, shown: Console) -> Iterator[None]:
    """Measure, and show how far it is. No thread draws meanwhile: nothing else runs."""
    seconds = [step.seconds(run.settings) for step in run.steps]
    shown.print(
        f"{words.counted(sum(len(step.cases) for step in run.steps), 'measurement')} in "
        f"{words.counted(run.settings.rounds, 'round')}, about {minutes(sum(seconds))}"
    )
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=sum(seconds))
        done, number = 0.0, 0
        for step, cost in zip(run.measure(), seconds, strict=True):
            if not shown.is_terminal and step.round > number:
                number = step.round
                shown.print(f"round {number} of {run.settings.rounds}")
            bar.update(task, completed=done, description=escape(described(step, run)))
            bar.refresh()
            done += cost
        yield


def described(step: Step, run: Run) -> str:
    cases = name(step.cases[0]) if len(step.cases) == 1 else f"{len(step.cases)} side by side"
    return f"round {step.round} of {run.settings.rounds}: {step.experiment.name}, {cases}"


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def show(results: Results, experiments: Sequence[Experiment], shown: Console) -> None:
    """Tables, verdicts, what is missing, and doubts."""
    for experiment in experiments:
        if any(row.experiment == experiment.name for row in results.rows):
            shown.print(table(results, experiment))
    for verdict in results.verdicts:
        shown.print(f"\n[bold]{escape(verdict.title)}[/bold]\n{escape(verdict.text)}")
    for (where, reason), cases in missing(results).items():
        shown.print(f"\n[yellow]not measured[/yellow] ({where}): {escape(reason)}")
        shown.print(escape("; ".join(cases)), style="dim")
    for doubt in results.doubts:
        shown.print(f"\n[yellow]doubt[/yellow]: {escape(doubt)}")


def table(results: Results, experiment: Experiment) -> Table:
    """The medians of an experiment: a line for each case, in the order of its cases."""
    found = {
        metric: medians
        for metric in experiment.table
        if (medians := summaries(results.rows, experiment.name, metric))
    }
    cases = list(dict.fromkeys(case for each in found.values() for case in each))
    items = [written(results, case) for case in cases]
    labels = list(dict.fromkeys(label for each in items for label, _ in each))
    numbers = [label for label in labels if all(numeric(dict(each).get(label)) for each in items)]
    texts = [label for label in labels if label not in numbers]
    made = Table(
        title=experiment.title, title_justify="left", show_edge=False, padding=(0, 1, 0, 0)
    )
    if texts:
        made.add_column("", no_wrap=True)
    for label in numbers:
        made.add_column(label, justify="right", min_width=len(label))
    for metric, medians in found.items():
        units = {summary.unit.partition("/")[2] for summary in medians.values()}
        per = "".join(f" per {unit}" for unit in units if unit not in ("", "s"))
        label = metric if per.endswith(metric.split()[-1]) else metric + per
        made.add_column(label, justify="right", min_width=max(map(len, label.split())))
    for case in sorted(cases, key=lambda case: order(dict(case), texts + numbers)):
        values = dict(case)
        cells = (
            [" ".join(str(values[label]) for label in texts if label in values)] if texts else []
        )
        cells += [number(values[label]) for label in numbers]
        for medians in found.values():
            summary = medians.get(case)
            cells.append("" if summary is None else plain(summary))
        made.add_row(*cells)
    return made


def numeric(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain(summary: Summary) -> str:
    """A median without what it is per: the column says so."""
    unit = summary.unit if summary.unit.endswith("/s") else summary.unit.partition("/")[0]
    return words.shown(summary.median, unit)


def written(results: Results, case: CaseKey) -> list[tuple[str, Any]]:
    """The items of a case in the order that they were written in."""
    for row in results.rows:
        if key(row.case) == case:
            return list(row.case.items())
    return list(case)


def order(values: Mapping[str, Any], labels: Sequence[str]) -> tuple[Any, ...]:
    """Numbers by size, texts by the alphabet, what a case lacks first."""
    return tuple((str(type(values.get(label))), values.get(label) or 0) for label in labels)


def missing(results: Results) -> dict[tuple[str, str], list[str]]:
    """Cases by experiment and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in sorted(results.missing, key=in_order):
        found.setdefault((each.experiment, each.reason), []).append(name(each.case))
    return found


def show_changes(
    found: Sequence[Change],
    gone: Sequence[tuple[str, CaseKey]],
    different: Sequence[tuple[str, Any, Any]],
    tolerance: float,
    shown: Console,
) -> None:
    """What differs from the older run."""
    moved = sorted(
        (each for each in found if each.moved(tolerance)),
        key=lambda each: (not each.worse(tolerance), -abs(each.ratio - 1)),
    )
    worse = sum(each.worse(tolerance) for each in moved)
    shown.print(
        f"\n[bold]Beside the older run[/bold]: {words.counted(len(found), 'median')} in both, "
        f"{len(moved):,} moved by more than {words.percent(tolerance)}, {worse:,} for the worse"
    )
    if different:
        shown.print("[yellow]The runs differ in more than the code[/yellow]:")
    for label, before, now in different:
        shown.print(escape(f"  {label}: {setting(label, before)}, now {setting(label, now)}"))
    if moved:
        made = Table()
        for label in ("", "experiment", "case", "metric"):
            made.add_column(label)
        for label in ("before", "now", "change"):
            made.add_column(label, justify="right")
        for each in moved[:LISTED]:
            made.add_row(
                "[red]worse[/red]" if each.worse(tolerance) else "",
                each.experiment,
                escape(name(each.written)),
                each.metric,
                words.shown(each.before.median, each.before.unit),
                words.shown(each.after.median, each.after.unit),
                grown(each.ratio),
            )
        shown.print(made)
        if len(moved) > LISTED:
            shown.print(f"and {len(moved) - LISTED:,} more")
    for where, case in gone:
        shown.print(f"[red]gone[/red]: {where}, {escape(name(case))} could be measured before")


def grown(ratio: float) -> str:
    if ratio == inf:
        return "from 0"
    return f"{ratio - 1:+.0%}" if ratio < 10 else f"× {ratio:,.0f}"


def show_order(
    pairs: Sequence[Pair], levels: Sequence[Level], tolerance: float, shown: Console
) -> None:
    """Whether the ways to serve have the order and the level of before."""
    if pairs:
        swapped = [each for each in pairs if not each.same]
        close = sum(each.closeness <= tolerance for each in swapped)
        shown.print(
            f"Order by throughput: the same in {part(each.same for each in pairs)} pairs"
            + (
                f"; of the {words.counted(len(swapped), 'other')} {close:,} "
                f"{'was' if close == 1 else 'were'} within {words.percent(tolerance)} of each other"
                if swapped
                else ""
            )
        )
    if levels:
        low, high = (f"{pick(each.common for each in levels) - 1:+.0%}" for pick in (min, max))
        shown.print(
            f"Medians of throughput within {words.percent(tolerance)} of before: "
            f"{part(abs(each.change - 1) <= tolerance for each in levels)}; beside what all ways "
            f"under a load have in common, from {low} to {high}, "
            f"{part(abs(each.own - 1) <= tolerance for each in levels)}"
        )


def part(which: Iterable[bool]) -> str:
    """How many of them: ``3 of 4 (75.0%)``."""
    them = list(which)
    return f"{sum(them):,} of {len(them):,} ({sum(them) / len(them):.1%})"
