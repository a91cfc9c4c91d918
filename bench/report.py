"""The report of a run: one set of tables for the terminal and for Markdown, and the JSON record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.figures import Cell, Cells, Verdict, ratio, verdict
from bench.loops import C_SERVER, OURS
from bench.rows import Row
from bench.run import Results, loops_of

ABSENT = "-"
TIMES = "\N{MULTIPLICATION SIGN}"
MEANINGS = {
    "scheduling": "operations a second on one core; more is better",
    "echo": "server CPU per echo, and echoes a second; less CPU is better",
    "memory": "private memory per idle connection; less is better",
    "watch": "with the watch or the guard over the same without; rates and CPU per echo",
}


@dataclass(frozen=True)
class Run:
    """A run that is over: what was asked, on what machine, what came of it."""

    started: datetime
    machine: dict[str, str]
    doubts: list[str]
    rows: list[Row]
    loops: list[str]
    rounds: int
    quick: bool
    results: Results

    def verdicts(self) -> dict[str, Verdict]:
        found = {row.name: verdict(row, self.results[row.name]) for row in self.rows}
        return {name: each for name, each in found.items() if each}

    def errors(self) -> list[str]:
        return [
            f"{name}, {loop}: {error}"
            for name, cells in self.results.items()
            for loop, cell in cells.items()
            for error in cell.errors
        ]

    def remarks(self) -> list[str]:
        """What must be known to read the tables: doubts, absent loops, broken measurements."""
        told: dict[str, dict[str, list[str]]] = {}
        for name, cells in self.results.items():
            for loop, cell in cells.items():
                reasons = [f"not run, {cell.unsupported}"] if cell.unsupported else cell.notes
                for reason in reasons:
                    told.setdefault(reason, {}).setdefault(name, []).append(loop)
        found = list(self.doubts)
        for reason, rows in told.items():
            places = (
                name if len(loops) == len(self.results[name]) else f"{name} ({', '.join(loops)})"
                for name, loops in rows.items()
            )
            found.append(f"{reason}: {'; '.join(places)}")
        return found + self.errors()


def number(value: float) -> str:
    """Three significant digits, with k and M."""
    for factor, suffix in ((1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def ours_of(cells: Cells) -> str | None:
    return next((name for name in cells if name.partition(":")[0] == OURS), None)


def cell_text(row: Row, cells: Cells, loop: str) -> str:
    cell: Cell | None = cells.get(loop)
    if cell is None or cell.unsupported:
        return ABSENT
    if cell.median is None:
        return "broke" if cell.errors else ABSENT
    unit = "" if row.unit == "/s" else f" {row.unit}"
    text = f"{number(cell.median)}{unit}"
    if len(cell.values) > 1:
        text += f" ±{cell.spread:.0%}"
    if throughput := cell.detail("echoes_per_second"):
        text += f"\n{number(throughput)}/s"
        found = ratio(row, cells, loop)
        if found and loop != C_SERVER:
            text += f"\n{found.median:.2f} {TIMES}"
    if cell.errors:
        text += f"\nbroke in {len(cell.errors)}"
    return text


def ratio_text(row: Row, cells: Cells) -> str:
    ours = ours_of(cells)
    found = ratio(row, cells, ours) if ours else None
    if not found:
        return ABSENT
    text = f"{found.median:.2f} {TIMES} {found.reference}"
    if found.highest > found.lowest:
        text += f"\n{found.lowest:.2f} to {found.highest:.2f}"
    return text


def bar_text(row: Row, cells: Cells) -> str:
    bar = row.bar
    if not bar:
        return ""
    sign = "≥" if row.more_is_better else "≤"
    unit = f" {TIMES}" if bar.of == "ratio" else f" {row.unit}"
    text = f"{sign} {bar.limit:g}{unit}"
    found = verdict(row, cells)
    if not found:
        return text
    text += "\npass" if found.passed else "\nFAIL"
    if found.passed and not found.aim_reached:
        text += f"\naim {bar.aim:g}{unit}"
    return text


def tables(run: Run) -> dict[str, list[list[str]]]:
    """For each group its lines of cells, the head first."""
    found: dict[str, list[list[str]]] = {}
    for row in run.rows:
        loops = loops_of(row, run.loops)
        head = [row.group, *loops, OURS + "\n/ best", "bar"]
        cells = run.results[row.name]
        line = [row.name, *(cell_text(row, cells, loop) for loop in loops)]
        line += [ratio_text(row, cells), bar_text(row, cells)]
        found.setdefault(row.group, [head]).append(line)
    return found


def show(run: Run, console: Console) -> None:
    """Prints the tables, the remarks and the count of bars passed."""
    for group, (head, *lines) in tables(run).items():
        table = Table(title=f"{group}: {MEANINGS[group]}", title_justify="left", show_lines=True)
        for column, name in enumerate(head):
            table.add_column(name, justify="left" if column == 0 else "right", no_wrap=column > 0)
        for line in lines:
            style = "bold red" if "FAIL" in line[-1] else "green" if "pass" in line[-1] else ""
            table.add_row(*line[:-1], Text(line[-1], style=style))
        console.print(table)
    for remark in run.remarks():
        console.print(f"- {remark}", markup=False, highlight=False)
    machine = ", ".join(f"{name} {value}" for name, value in run.machine.items())
    console.print(f"{dated(run)}; {machine}", style="dim", markup=False, highlight=False)
    console.print(summary(run), style="bold", markup=False)


def dated(run: Run) -> str:
    rounds = f"{run.rounds} interleaved round{'s' if run.rounds > 1 else ''}"
    return f"{run.started:%Y-%m-%d %H:%M}, {rounds}{', quick' if run.quick else ''}"


def summary(run: Run) -> str:
    verdicts = run.verdicts()
    failed = [name for name, found in verdicts.items() if not found.passed]
    text = f"{len(verdicts) - len(failed)} of {len(verdicts)} bars passed"
    return text + (f"; below the bar: {', '.join(failed)}" if failed else "")


def markdown(run: Run) -> str:
    """The same report for the repository."""
    lines = [f"# Benchmark of {dated(run)}", "", summary(run) + ".", ""]
    for group, (head, *body) in tables(run).items():
        meaning = MEANINGS[group]
        lines += [f"## {group.capitalize()}", "", f"{meaning[0].upper()}{meaning[1:]}.", ""]
        lines += [f"| {' | '.join(head)} |".replace("\n", " "), f"|{'---|' * len(head)}"]
        lines += [f"| {' | '.join(line)} |".replace("\n", "<br>") for line in body] + [""]
    if remarks := run.remarks():
        lines += ["## Remarks", "", *(f"- {remark}" for remark in remarks), ""]
    lines += ["## Machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in run.machine.items()]
    return "\n".join(lines) + "\n"


def record(run: Run) -> dict[str, Any]:
    """Every sample and every figure, for `json.dump`."""
    rows = {}
    for row in run.rows:
        cells = run.results[row.name]
        ours = ours_of(cells)
        found = ratio(row, cells, ours) if ours else None
        judged = verdict(row, cells)
        rows[row.name] = {
            "group": row.group,
            "unit": row.unit,
            "more_is_better": row.more_is_better,
            "bar": asdict(row.bar) if row.bar else None,
            "ratio": asdict(found) if found else None,
            "verdict": asdict(judged) if judged else None,
            "loops": {
                loop: {"median": cell.median, "spread": cell.spread, **asdict(cell)}
                for loop, cell in cells.items()
            },
        }
    return {
        "started": run.started.isoformat(timespec="seconds"),
        "rounds": run.rounds,
        "quick": run.quick,
        "machine": run.machine,
        "doubts": run.doubts,
        "rows": rows,
    }
