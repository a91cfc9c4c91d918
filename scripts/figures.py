"""Every figure about the models in the documentation is a row of the committed report.

    python scripts/figures.py            # write the figures anew, after the report was made anew
    python scripts/figures.py --check    # exit 1 where one is not what the report says

A figure is a link whose title names its row, and its text is the median over the rounds:

    [11.2 µs](report/index.html#models "cpu; model=loop; backend=epoll; connections=100")

A table between `<!-- rows of the report -->` and `<!-- end of rows -->` is written from ROWS below.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from neverblock.lab.results import Results, Scalar, load
from neverblock.lab.words import shown

DOCS = Path(__file__).parent.parent / "docs"
REPORT = DOCS / "report" / "results.json"
FIGURE = re.compile(
    r"\[(?P<text>[^\]]*)\](?P<row>\([./]*(?:report/)?index\.html#(?P<experiment>[\w-]+)"
    r' "(?P<metric>[^";]+); (?P<case>[^"]+)"\))'
)
TABLE = re.compile(r"(?<=<!-- rows of the report -->\n).*?(?=<!-- end of rows -->)", re.DOTALL)

#: The table's columns, and what its cases have beside the row's own.
COLUMNS: dict[str, dict[str, Scalar]] = {
    "loop": {"model": "loop", "backend": "epoll"},
    "2 workers": {"model": "workers"},
    "iterative": {"model": "iterative"},
    "process": {"model": "process"},
    "thread": {"model": "thread"},
    "pool (64)": {"model": "pool"},
}
#: Its rows: what it is called, the experiment, the metric, the rest of the case.
ROWS: list[tuple[str, str, str, dict[str, Scalar]]] = [
    ("server at rest", "models", "pss at rest", {"connections": 1000}),
    ("memory of a silent connection", "models", "pss per connection", {"connections": 1000}),
    ("CPU for an echo, 1 client", "models", "cpu", {"connections": 1}),
    ("CPU for an echo, 100 clients", "models", "cpu", {"connections": 100}),
    ("CPU for an echo, 1,000 clients", "models", "cpu", {"connections": 1000}),
    ("CPU for an echo, 10,000 clients", "models", "cpu", {"connections": 10000}),
    ("echoes a second, 1 client", "models", "throughput", {"connections": 1}),
    ("echoes a second, 1,000 clients", "models", "throughput", {"connections": 1000}),
    ("latency p50, 1,000 clients", "models", "latency p50", {"connections": 1000}),
    ("latency p99, 1,000 clients", "models", "latency p99", {"connections": 1000}),
    ("waits for an echo, 1,000 clients", "models", "voluntary switches", {"connections": 1000}),
]


def scalar(text: str) -> Scalar:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def found(results: Results, experiment: str, metric: str, case: Mapping[str, Scalar]) -> str | None:
    """The median over the rounds as people read it; None: there is no such row."""
    rows = [
        row
        for row in results.rows
        if (row.experiment, row.metric, dict(row.case)) == (experiment, metric, dict(case))
    ]
    if not rows:
        return None
    return re.sub(" per [a-z-]+$", "", shown(median(row.value for row in rows), rows[0].unit))


def cited(results: Results, figure: re.Match[str]) -> str:
    """The link with the report's figure. Raises LookupError where it has none."""
    case = dict(item.split("=", 1) for item in figure["case"].split("; "))
    row = {name: scalar(text) for name, text in case.items()}
    text = found(results, figure["experiment"], figure["metric"], row)
    if text is None:
        raise LookupError(f"{REPORT.name} has no row {figure['row']}")
    return f"[{text}]{figure['row']}"


def table(results: Results) -> str:
    lines = [
        f"| | {' | '.join(COLUMNS)} | row |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for label, experiment, metric, rest in ROWS:
        cells = [
            found(results, experiment, metric, {**column, **rest}) or "–"
            for column in COLUMNS.values()
        ]
        if any(cell != "–" for cell in cells):
            where = ", ".join(f"{value:,} {name}" for name, value in rest.items())
            lines.append(f"| {label} | {' | '.join(cells)} | `{experiment}`: {metric}, {where} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    results = load(REPORT)
    stale = False
    for page in sorted(DOCS.rglob("*.md")):
        old = page.read_text()
        new = FIGURE.sub(lambda figure: cited(results, figure), old)
        new = TABLE.sub(lambda _: table(results), new)
        if new == old:
            continue
        stale = True
        if "--check" in sys.argv:
            print(f"{page.relative_to(DOCS.parent)}: figures are not those of the report")
        else:
            page.write_text(new)
            print(f"{page.relative_to(DOCS.parent)}: written")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
