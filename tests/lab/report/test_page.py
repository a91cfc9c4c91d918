"""The page as text: whole, escaped, small, and made even of little."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

from neverblock.lab.report import render, write
from neverblock.lab.results import Missing, Results, Row
from tests.lab.report.samples import EXPERIMENTS, HOSTILE, full, rows

EMPTY = Results(
    started="yesterday", command="neverblock compare", machine={}, versions={}, settings={}
)


class Elements(HTMLParser):
    """Every element, and whether they are closed in order."""

    VOID = ("meta", "link", "br")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def elements(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(text)
    assert parser.open == []
    return parser.found


def test_it_is_one_file_that_runs_and_loads_nothing(text: str) -> None:
    assert len(text.encode()) < 2_000_000
    found = elements(text)
    assert {"script", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in found)
    targets = [
        value
        for tag, attributes in found
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href") or "url(" in (value or "")
    ]
    assert targets
    assert all(re.match(r"#|data:,$|url\(#", target or "") for target in targets)


def test_names_are_never_taken_for_html(text: str) -> None:
    assert HOSTILE not in text
    assert "<script" not in text
    assert "requests <b>" not in text
    assert "&lt;script&gt;" in text


def test_every_picture_has_a_text_and_its_numbers(text: str) -> None:
    found = elements(text)
    texts = [a["aria-label"] for tag, a in found if tag == "svg"]
    assert len(texts) == 2 * sum(len(each.charts) for each in full().experiments)
    assert all(
        label and re.match(r"(Line chart|Bar chart|Grid) of .* Lowest: .* highest: ", label)
        for label in texts
    )
    names = [attributes["id"] for _, attributes in found if attributes.get("id")]
    assert len(names) == len(set(names))
    assert sum(tag == "details" for tag, _ in found) == len(full().experiments)


def test_what_could_not_be_measured_says_why(text: str) -> None:
    assert "select cannot watch descriptor 1024" in text
    assert "other processes took 12 %" in text
    assert "Stopped early" not in text
    assert "Stopped early" in render(dataclasses.replace(EMPTY, complete=False))


def test_rows_of_an_experiment_that_is_not_described_are_shown() -> None:
    row = Row(experiment="new", case={"n": 1}, round=1, metric="time", unit="s", value=0.5)
    lack = Missing(experiment="lost", case={}, reason="no such thing here")
    text = render(dataclasses.replace(EMPTY, rows=(row,), missing=(lack,)))
    assert "500" in text
    assert "ms" in text
    assert "no such thing here" in text


def test_an_empty_run_is_a_page(tmp_path: Path) -> None:
    path = write(EMPTY, tmp_path)
    assert path == tmp_path / "index.html"
    assert "yesterday" in path.read_text()
    elements(path.read_text())


def test_zeros_and_single_values_can_be_drawn() -> None:
    results = dataclasses.replace(full(), experiments=EXPERIMENTS, rows=tuple(rows()))
    flat = tuple(dataclasses.replace(row, value=0.0) for row in results.rows)
    elements(render(dataclasses.replace(results, rows=flat)))
    once = tuple({(row.experiment, row.metric): row for row in full().rows}.values())
    elements(render(dataclasses.replace(full(), rows=once, experiments=full().experiments[:2])))


def test_without_its_extra_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['altair'] = None\n"
        "from tests.lab.report.test_page import EMPTY, render\n"
        "from neverblock.errors import LabError\n"
        "try: render(EMPTY)\n"
        "except LabError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "the report needs altair, which is not installed: pip install 'neverblock[lab]'\n"
    )


def test_one_of_anything_is_told_as_one() -> None:
    row = Row(experiment="e", case={"a": 1}, round=1, metric="throughput", unit="1/s", value=1.0)
    before, now = (
        dataclasses.replace(
            EMPTY, machine={"cores": 1}, rows=(row, dataclasses.replace(row, case={"a": other}))
        )
        for other in (2, 3)
    )
    text = render(now, before)
    assert re.search(r" · 1 core\b", text)
    for words in ("Of 1 figure that both", "1 is new.", "1 was not measured again."):
        assert words in text
