"""The report in a real browser: charts are drawn, nothing overlaps or sticks out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neverblock.lab.report import write
from tests.lab.report.browser import Tab, browser
from tests.lab.report.samples import full
from tests.servers.tools import tool

#: Charts that can be seen, with how many marks each has.
DRAWN = """[...document.querySelectorAll('svg.chart')].filter(svg => svg.checkVisibility())
    .map(svg => svg.querySelectorAll('path, line, rect').length)"""
#: Pairs of texts of one chart that lie on each other, and texts that leave their figure.
CROWDED = """[...document.querySelectorAll('svg.chart')].filter(svg => svg.checkVisibility())
    .flatMap(svg => {
        const card = svg.closest('figure').getBoundingClientRect();
        const texts = [...svg.querySelectorAll('text')].filter(text => text.textContent)
            .map(text => [text.firstChild.textContent, text.getBoundingClientRect()]);
        const out = texts.filter(([, a]) => a.left < card.left || a.right > card.right)
            .map(([text]) => text + ' leaves its figure');
        const on = texts.flatMap(([one, a], n) => texts.slice(n + 1)
            .filter(([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5
                && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2.5)
            .map(([other]) => one + ' on ' + other));
        return [...out, ...on];
    })"""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
#: Elements that stick out of the page and not of a box that scrolls.
TOO_WIDE = """[...document.querySelectorAll('body *')].filter(element =>
    !element.closest('.box, pre, svg') && element.getBoundingClientRect().right > innerWidth + 0.5)
    .map(element => element.tagName + '.' + element.className)"""
SMALL = """Math.min(...[...document.querySelectorAll('svg.chart')]
    .filter(svg => svg.checkVisibility())
    .flatMap(svg => [...svg.querySelectorAll('text')]
        .map(text => 12 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)))"""


@pytest.fixture(scope="module")
def tab(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tool("chromium"), tmp_path_factory.mktemp("browser")) as tab:
        tab.show(width=1280)
        tab.open(path)
        yield tab


def test_it_asks_for_nothing_and_complains_of_nothing(tab: Tab, path: Path) -> None:
    assert [url for url in tab.requests() if not url.startswith("data:")] == [path.as_uri()]
    assert tab.complaints() == []
    assert tab.ask("document.scripts.length") == 0


@pytest.mark.parametrize("width", [320, 375, 600, 768, 1024, 1280, 1920])
def test_charts_fit_every_screen(tab: Tab, width: int) -> None:
    tab.show(width=width)
    marks = tab.ask(DRAWN)
    assert len(marks) == charts()
    assert min(marks) >= 8
    assert tab.ask(CROWDED) == []
    assert tab.ask(WIDER) == 0
    assert tab.ask(TOO_WIDE) == []
    assert tab.ask(SMALL) >= 9


def test_tables_are_shown_when_asked_for(tab: Tab) -> None:
    tab.show(width=320)
    tables = "[...document.querySelectorAll('details table')]"
    assert not tab.ask(f"{tables}.some(table => table.checkVisibility())")
    tab.ask("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert tab.ask(f"{tables}.every(table => table.checkVisibility())")
    assert tab.ask(WIDER) == 0
    assert tab.ask(TOO_WIDE) == []
    tab.ask("document.querySelectorAll('details').forEach(each => each.open = false)")


def test_paper_shows_charts_and_tables_in_the_colours_of_light(tab: Tab) -> None:
    tab.show(width=680, dark=True, media="print")
    assert len(tab.ask(DRAWN)) == charts()
    heights = "[...document.querySelectorAll('details table')].map(each => each.offsetHeight)"
    assert min(tab.ask(heights)) > 20
    assert tab.ask(CROWDED) == []
    assert colours(tab)["background"] == "rgb(255, 255, 255)"
    assert tab.call("Page.printToPDF")["data"]


def test_dark_and_light_are_the_readers_choice(tab: Tab) -> None:
    tab.show(width=1280)
    light = colours(tab)
    tab.show(width=1280, dark=True)
    dark = colours(tab)
    assert all(light[part] != dark[part] for part in light)


def test_the_names_of_what_changed_leave_room_on_a_phone(tab: Tab, tmp_path: Path) -> None:
    before = full()
    rows = tuple(dataclasses.replace(row, value=row.value * 2) for row in before.rows)
    tab.show(width=375)
    tab.open(write(before, tmp_path, dataclasses.replace(before, rows=rows)))
    widths = tab.ask("[...document.querySelectorAll('#changes tbody th')].map(e => e.offsetWidth)")
    assert len(widths) > 10
    assert max(widths) < 375 / 2
    assert tab.ask(WIDER) == 0


def colours(tab: Tab) -> dict[str, Any]:
    found = tab.ask("""({
        background: getComputedStyle(document.body).backgroundColor,
        text: getComputedStyle(document.body).color,
        label: getComputedStyle(document.querySelector('svg.chart text')).fill,
        mark: getComputedStyle(document.querySelector('svg.chart .mark [fill^="var(--c"]')
            ?? document.querySelector('svg.chart [fill^="var(--c"]')).fill,
    })""")
    assert isinstance(found, dict)
    return found


def charts() -> int:
    return sum(len(description.charts) for description in full().experiments)
