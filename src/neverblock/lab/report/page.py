"""The page: what stands on it, handed to the template.

- Every text of a result is escaped by the template; the only HTML let through is our own charts,
  whose texts an XML writer has escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from neverblock.lab.report import palette, words
from neverblock.lab.report.bars import bar_chart
from neverblock.lab.report.changes import changes
from neverblock.lab.report.grid import grid_chart
from neverblock.lab.report.lines import line_chart
from neverblock.lab.report.series import Picture, picture
from neverblock.lab.report.svg import svg
from neverblock.lab.report.tables import Table, tables
from neverblock.lab.report.units import shown
from neverblock.lab.results import Description, Results, Verdict, in_order

#: Each chart is drawn for a screen and for a phone; the page shows the one that fits.
WIDTHS = {"wide": 600.0, "narrow": 320.0}


@dataclass(frozen=True, slots=True)
class Figure:
    title: str
    note: str
    drawings: list[Markup]


@dataclass(frozen=True, slots=True)
class Section:
    description: Description
    verdicts: list[Verdict]
    figures: list[Figure]
    tables: list[Table]
    missing: list[tuple[str, list[str]]]
    """Reasons, each with the cases that it kept from being measured."""

    @property
    def headline(self) -> str:
        return self.verdicts[0].title if self.verdicts else self.description.title


def page(results: Results, baseline: Results | None = None, tolerance: float = 0.0) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(shown=shown, date=words.date, count="{:,}".format)
    environment.globals.update(setting=words.setting)
    return environment.get_template("page.html").render(
        results=results,
        sections=list(_sections(results)),
        changes=changes(results, baseline, tolerance) if baseline else None,
        rounds=max((row.round for row in results.rows), default=0),
        light=_colours(palette.LIGHT),
        dark=_colours(palette.DARK),
        grounds=(palette.LIGHT_GROUND, palette.DARK_GROUND),
    )


def _colours(colours: tuple[str, ...]) -> str:
    return " ".join(f"--c{slot}: {colour};" for slot, colour in enumerate(colours))


def _sections(results: Results) -> Iterator[Section]:
    for number, description in enumerate(_descriptions(results)):
        missing: dict[str, list[str]] = {}
        for lack in sorted(results.missing, key=in_order):
            if lack.experiment == description.name:
                missing.setdefault(lack.reason, []).append(words.case_of(lack.case))
        yield Section(
            description,
            [each for each in results.verdicts if each.experiment == description.name],
            list(_figures(results, description, number)),
            tables(results, description),
            list(missing.items()),
        )


def _descriptions(results: Results) -> Iterator[Description]:
    """Those there are, and one for whatever else was measured."""
    yield from results.experiments
    known = {description.name for description in results.experiments}
    names = [each.experiment for each in results.rows]
    names += [each.experiment for each in results.missing]
    names += [each.experiment for each in results.verdicts]
    for name in dict.fromkeys(names):
        if name not in known:
            yield Description(
                name=name, title=name, question="", method="", command=results.command
            )


def _figures(results: Results, description: Description, number: int) -> Iterator[Figure]:
    for place, chart in enumerate(description.charts):
        shown_here = picture(results, description.name, chart)
        if shown_here.lines:
            yield _figure(shown_here, f"s{number}-{place}")


def _figure(shown_here: Picture, name: str) -> Figure:
    chart = shown_here.chart
    draw = bar_chart
    if chart.kind == "grid":
        draw = grid_chart
    elif chart.kind == "line" and shown_here.numeric:
        draw = line_chart
    text = words.described(shown_here)
    drawings = [
        Markup(
            svg(draw(shown_here, width), name=f"{name}-{size}", text=text, classes=f"chart {size}")
        )
        for size, width in WIDTHS.items()
    ]
    note = "; ".join(filter(None, [chart.metric, words.wish(chart.metric, chart.unit)]))
    return Figure(chart.title, note, drawings)
