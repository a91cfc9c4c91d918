"""The report of a run: one set of tables for the terminal and for Markdown, and the JSON record."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from statistics import median, quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import Cell
from bench.models.blocking import SECONDS
from bench.models.measures import BLOCKED, CROWDS, IDLE, PARALLEL
from bench.models.reach import Reach, Step
from bench.models.servers import MODELS
from bench.report import number

ABSENT = "-"


@dataclass
class Run:
    """A run: what was asked, on what machine, what came of it."""

    started: datetime
    machine: dict[str, str]
    doubts: list[str]
    models: list[str]
    rounds: int
    quick: bool
    cells: dict[str, dict[str, Cell]]
    """By measure, then by model."""
    reaches: dict[str, Reach] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)
    """The machine's load average of a minute, before each round and at the end."""


@dataclass(frozen=True)
class Part:
    """A table: a line for each model."""

    title: str
    meaning: str
    head: list[str]
    lines: list[list[str]]


def quantity(value: float, unit: str) -> str:
    """Three significant digits; microseconds as what reads best."""
    if unit == "µs":
        for factor, larger in ((1e6, "s"), (1e3, "ms")):
            if value >= factor:
                return f"{value / factor:.3g} {larger}"
    if unit == "KiB" and value >= 1024:
        value, unit = value / 1024, "MiB"
    if value < 0.005:
        return f"0 {unit}".strip()
    return f"{number(value)} {unit}".strip()


def figure(cell: Cell, name: str, unit: str = "") -> str:
    """The median of a detail, with its spread where there is one."""
    values = [each.details[name] for each in cell.samples if each and name in each.details]
    if not values:
        return "broke" if cell.errors else ABSENT
    text = quantity(median(values), unit)
    if len(values) > 1 and median(values):
        low, _, high = quantiles(values, n=4, method="inclusive")
        text += f" ±{(high - low) / 2 / median(values):.0%}"
    return text


def parts(run: Run) -> list[Part]:
    found = []
    if "idle" in run.cells:
        found += [memory_part(run), waiting_part(run)]
    crowds = [crowd for crowd in CROWDS if f"echo {crowd}" in run.cells]
    if crowds:
        found += echo_parts(run, crowds)
    if "blocking" in run.cells:
        found.append(blocking_part(run))
    if "churn" in run.cells:
        found.append(churn_part(run))
    if run.reaches:
        found.append(reach_part(run))
    return found


def memory_part(run: Run) -> Part:
    lines = []
    for model in run.models:
        cell = run.cells["idle"][model]
        lines.append(
            [
                model,
                figure(cell, "base_mib", "MiB"),
                whole(cell, "held"),
                whole(cell, "processes"),
                whole(cell, "threads"),
                figure(cell, "kib_each", "KiB"),
                figure(cell, "page_tables_kib_each", "KiB"),
            ]
        )
    return Part(
        "Memory of an idle connection",
        f"Up to {IDLE:,} connections that got one answer and stay. Memory is PSS of the server and "
        "its children: what is shared counts once. What the kernel keeps to map it, and for "
        "sockets, processes and threads, is not in it; page tables stand beside it.",
        ["model", "empty server", "idle", "processes", "threads", "each", "page tables, each"],
        lines,
    )


def waiting_part(run: Run) -> Part:
    lines = []
    for model in run.models:
        cell = run.cells["idle"][model]
        lines.append(
            [
                model,
                figure(cell, "first_answer_alone_us", "µs"),
                figure(cell, "first_answer_alone_p99_us", "µs"),
                whole(cell, "held"),
                figure(cell, "first_answer_us", "µs"),
                figure(cell, "first_answer_p99_us", "µs"),
            ]
        )
    return Part(
        "From connect to the first answer",
        "One client after another; first alone, then beside idle connections.",
        ["model", "alone", "p99", "idle", "beside them", "p99"],
        lines,
    )


def echo_parts(run: Run, crowds: list[int]) -> list[Part]:
    def table(cell_text: Any) -> list[list[str]]:
        return [
            [model, *(cell_text(run.cells[f"echo {crowd}"][model], crowd) for crowd in crowds)]
            for model in run.models
        ]

    def rate(cell: Cell, crowd: int) -> str:
        text = figure(cell, "echoes_per_second")
        answered = cell.detail("answered")
        if answered is not None and answered < crowd:
            text += f"\n{answered:.0f} served"
        return text

    head = ["model", *(f"{crowd:,} client{'s' if crowd > 1 else ''}" for crowd in crowds)]
    return [
        Part(
            "Echoes a second",
            "Closed loop, 1 KiB, one message in flight for each client; the server on one core, "
            "the client on another. Where fewer are served than connect, the others wait.",
            head,
            table(rate),
        ),
        Part(
            "Latency, p50 / p99",
            "Of those that are served; in a closed loop it grows with the number of clients.",
            head,
            table(lambda cell, _: f"{plain(cell, 'p50_us', 'µs')} / {plain(cell, 'p99_us', 'µs')}"),
        ),
        Part(
            "CPU of the server for an echo",
            "User and system, all processes and threads.",
            head,
            table(lambda cell, _: figure(cell, "cpu_us", "µs")),
        ),
        Part(
            "Context switches for an echo, voluntary / involuntary",
            "Of all threads of all processes of the server.",
            head,
            table(
                lambda cell, _: (
                    f"{plain(cell, 'voluntary_switches')} / {plain(cell, 'involuntary_switches')}"
                )
            ),
        ),
        Part(
            "Processes / threads while they echo",
            "The threads of all processes together.",
            head,
            table(lambda cell, _: f"{whole(cell, 'processes')} / {whole(cell, 'threads')}"),
        ),
    ]


def blocking_part(run: Run) -> Part:
    lines = []
    for model in run.models:
        cell = run.cells["blocking"][model]
        served = whole(cell, "answered")
        latency = f"{plain(cell, 'p50_us', 'µs')} / {plain(cell, 'p99_us', 'µs')}"
        lines.append([model, served, figure(cell, "echoes_per_second"), latency])
    return Part(
        "A handler that blocks",
        f"It sleeps {SECONDS * 1000:g} ms in a blocking call before each answer; {BLOCKED} clients "
        "in a closed loop.",
        ["model", "served", "echoes a second", "latency p50 / p99"],
        lines,
    )


def churn_part(run: Run) -> Part:
    lines = []
    for model in run.models:
        cell = run.cells["churn"][model]
        lines.append(
            [
                model,
                figure(cell, "connections_per_second"),
                figure(cell, "cpu_us", "µs"),
                figure(cell, "p50_us", "µs"),
                figure(cell, "p99_us", "µs"),
            ]
        )
    return Part(
        "Short connections",
        f"Connect, one echo of 1 KiB, close; {PARALLEL} at once, over and over.",
        ["model", "connections a second", "server CPU for each", "first answer p50", "p99"],
        lines,
    )


def reach_part(run: Run) -> Part:
    lines = []
    for model, reach in run.reaches.items():
        lines += [[model, *step_cells(step)] for step in reach.steps]
        lines.append([model, f"end: {reach.end}", "", "", "", "", "", ""])
    head = ["model", "connections", "in", "PSS", "page tables", "whole machine"]
    return Part(
        "How far it goes",
        "Connections that stay, each answered once when it came. The whole machine: how much less "
        "memory is available than before: the kernel's, the client's and the neighbours' part is "
        "in it.",
        [*head, "processes / threads", "one more, first answer"],
        lines,
    )


def step_cells(step: Step) -> list[str]:
    return [
        f"{step.connections:,}",
        f"{step.seconds:.1f} s",
        f"{step.pss_mib:,.0f} MiB",
        f"{step.page_tables_mib:,.0f} MiB",
        f"{step.machine_mib:,.0f} MiB",
        f"{step.processes:,} / {step.threads:,}",
        quantity(step.first_answer_us, "µs"),
    ]


def plain(cell: Cell, name: str, unit: str = "") -> str:
    value = cell.detail(name)
    return ABSENT if value is None else quantity(value, unit)


def whole(cell: Cell, name: str) -> str:
    value = cell.detail(name)
    return ABSENT if value is None else f"{value:,.0f}"


def remarks(run: Run) -> list[str]:
    found = list(run.doubts)
    if run.load:
        found.append(
            f"load of the machine, this run's own included: {min(run.load):.1f} to "
            f"{max(run.load):.1f} (a minute's average, read before each round and at the end)"
        )
    notes: dict[str, list[str]] = {}
    for name, cells in run.cells.items():
        for model, cell in cells.items():
            if cell.unsupported:
                notes.setdefault(f"not run, {cell.unsupported}", []).append(f"{name} ({model})")
            for note in cell.notes:
                notes.setdefault(note, []).append(f"{name} ({model})")
            found += [f"{name}, {model}: {error}" for error in cell.errors]
    return found + [f"{note}: {'; '.join(places)}" for note, places in notes.items()]


def dated(run: Run) -> str:
    rounds = f"{run.rounds} interleaved round{'s' if run.rounds > 1 else ''}"
    return f"{run.started:%Y-%m-%d %H:%M}, {rounds}{', quick' if run.quick else ''}"


def show(run: Run, console: Console) -> None:
    for part in parts(run):
        table = Table(title=part.title, title_justify="left")
        for column, name in enumerate(part.head):
            table.add_column(name, justify="left" if column == 0 else "right")
        for line in part.lines:
            table.add_row(*line)
        console.print(table)
    for remark in remarks(run):
        console.print(f"- {remark}", markup=False, highlight=False)
    machine = ", ".join(f"{name} {value}" for name, value in run.machine.items())
    console.print(f"{dated(run)}; {machine}", style="dim", markup=False, highlight=False)


def markdown(run: Run) -> str:
    """The same report for the repository."""
    lines = [f"# Server models, {dated(run)}", ""]
    lines += [
        "What each model was started with, after `neverblock serve examples/echo.py:handle`:",
        "",
    ]
    lines += [f"- {model}: `{' '.join(MODELS[model].options)}`" for model in run.models] + [""]
    for part in parts(run):
        lines += [f"## {part.title}", "", part.meaning, ""]
        lines += [f"| {' | '.join(part.head)} |", f"|{'---|' * len(part.head)}"]
        lines += [f"| {' | '.join(line)} |".replace("\n", "<br>") for line in part.lines] + [""]
    lines += ["## Remarks", "", *(f"- {remark}" for remark in remarks(run)), ""]
    lines += ["## Machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in run.machine.items()]
    return "\n".join(lines) + "\n"


def record(run: Run) -> dict[str, Any]:
    """Every sample, for `json.dump`."""
    return {
        "started": run.started.isoformat(timespec="seconds"),
        "rounds": run.rounds,
        "quick": run.quick,
        "machine": run.machine,
        "doubts": run.doubts,
        "load": run.load,
        "models": {model: " ".join(MODELS[model].options) for model in run.models},
        "measures": {
            name: {model: asdict(cell) for model, cell in cells.items()}
            for name, cells in run.cells.items()
        },
        "reach": {model: reach.record() for model, reach in run.reaches.items()},
    }
