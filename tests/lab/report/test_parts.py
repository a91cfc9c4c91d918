"""The parts of the report: numbers, axes, colours, tables, what changed."""

from __future__ import annotations

import dataclasses
import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverblock.lab import baseline
from neverblock.lab.report import axis, palette, render, units, words
from neverblock.lab.report.changes import changes
from neverblock.lab.report.drawing import spread_out
from neverblock.lab.report.series import picture
from neverblock.lab.report.tables import tables
from neverblock.lab.results import Case, Chart, Description, Results, Row
from tests.lab.report.samples import full

AMOUNTS = st.floats(1e-9, 1e12)


def results(*rows: tuple[Case, str, str, list[float]]) -> Results:
    return Results(
        started="2026-11-24T21:00:00+00:00",
        command="neverblock compare",
        machine={},
        versions={},
        settings={},
        rows=tuple(
            Row(experiment="e", case=case, round=n, metric=metric, unit=unit, value=value)
            for case, metric, unit, values in rows
            for n, value in enumerate(values, 1)
        ),
    )


def chart(metric: str = "m", **more: object) -> Chart:
    return Chart(metric=metric, unit="s", title="t", x="n", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (4.65225e-4, "s", "465 µs"),
        (2.0, "s", "2.00 s"),
        (0, "s", "0 s"),
        (0, "B", "0 B"),
        (0, "1/s", "0/s"),
        (9.996e-4, "s", "1.00 ms"),
        (999_600, "1/s", "1.00 M/s"),
        (1023.9, "B", "1,020 B"),
        (1.1e-5, "s/request", "11.0 µs per request"),
        (30_120, "1/s", "30.1 k/s"),
        (95, "1/s", "95.0/s"),
        (3482, "B", "3.40 KiB"),
        (1.9e6, "B/connection", "1.81 MiB per connection"),
        (0.0103, "1/request", "0.0103 per request"),
        (15_000, "1", "15,000"),
        (12_345_678, "1/request", "12,300,000 per request"),
    ],
)
def test_numbers_have_three_digits_that_count_and_a_unit(
    value: float, unit: str, text: str
) -> None:
    assert units.shown(value, unit) == text


#: What the words before a unit's "per" are worth, by unit.
WORTH = {
    "s": {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0},
    "B": {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30},
    "1/s": {"/s": 1.0, "k/s": 1e3, "M/s": 1e6, "G/s": 1e9},
    "1": {"": 1.0},
}


@given(
    st.one_of(st.just(0.0), st.floats(1e-12, 1e15), st.floats(-1e15, -1e-12)),
    st.sampled_from(list(WORTH)),
    st.sampled_from(["", "/request"]),
)
def test_a_unit_is_never_larger_than_its_value(value: float, unit: str, per: str) -> None:
    if unit.endswith("/s"):
        per = ""
    text = units.shown(value, unit + per)
    found = re.fullmatch(r"(-?[\d.,]+(?:e-?\d+)?) ?(\S*?)(?: ?per request)?", text)
    assert found is not None, text
    number, worth = float(found[1].replace(",", "")), WORTH[unit][found[2]]
    assert abs(number) >= 1 or worth == min(WORTH[unit].values()) or (number == 0 and worth == 1)
    assert number * worth == pytest.approx(value, rel=0.0051, abs=0)


def test_a_metric_is_better_one_way_in_tables_charts_and_comparisons() -> None:
    one = results(
        ({"n": 1, "model": "loop"}, "errors", "1", [0]),
        ({"n": 1, "model": "pool"}, "errors", "1", [6]),
        ({"n": 1, "model": "loop"}, "descriptors looked at", "1/wake-up", [1]),
        ({"n": 1, "model": "pool"}, "descriptors looked at", "1/wake-up", [9]),
    )
    work, counts = tables(one, description(chart(series=("model",))))
    assert [cell.best for _, [cell] in counts.groups[0].rows] == [True, False]
    assert not work.marks
    assert words.wish("errors", "1") == "lower is better"
    assert words.wish("descriptors looked at", "1/wake-up") == ""
    worse = dataclasses.replace(
        one, rows=tuple(dataclasses.replace(row, value=row.value + 7) for row in one.rows)
    )
    found = changes(worse, one)
    assert {(each.metric, each.judgement) for each in found.shown} == {
        ("errors", "worse"), ("descriptors looked at", ""),
    }  # fmt: skip
    assert {change.metric for change in baseline.changes(one, worse) if change.worse(0.1)} == {
        "errors"
    }


@given(AMOUNTS)
def test_a_number_says_what_it_is_to_half_a_percent(value: float) -> None:
    assert float(units.number(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=8), st.booleans())
def test_an_axis_holds_its_values_and_its_marks(values: list[float], logarithmic: bool) -> None:
    values = [0.0 if value < 1e-9 else value for value in values]
    for made in (axis.of_values, axis.of_settings):
        found = made(values, logarithmic=logarithmic)
        assert all(-1e-6 <= found.at(value) <= 1 + 1e-6 for value in values)
        assert len(found.ticks) >= 1
        assert list(found.ticks) == sorted(set(found.ticks))
        spaced = found.spaced(200, 40)
        places = [found.at(tick) * 200 for tick in spaced[:-1]]
        assert all(after - before >= 40 for before, after in pairwise(places))


@given(st.floats(-1e9, -1e-9), st.floats(-1e9, 1e9))
def test_an_axis_with_values_below_zero_is_linear(low: float, high: float) -> None:
    found = axis.of_values([low, high], logarithmic=True)
    assert found.kind == "linear"
    assert all(-1e-6 <= found.at(value) <= 1 + 1e-6 for value in (low, high))


@given(st.lists(st.floats(-50, 450), max_size=20))
def test_names_stand_apart_in_the_order_of_their_lines(wanted: list[float]) -> None:
    found = spread_out(wanted, 16, 0, 400)
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    places = [found[n] for n in order]
    assert all(b - a >= 16 - 1e-6 for a, b in pairwise(places))
    assert all(-1e-6 <= place <= 400 + 1e-6 for place in places)


def linear(colour: str) -> tuple[float, ...]:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    return tuple(
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )


def luminance(colour: str) -> float:
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


#: Machado, Oliveira and Fernandes 2009, severity 1; on linear RGB.
SIGHT = {
    "trichromat": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanope": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranope": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanope": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def oklab(rgb: tuple[float, ...]) -> tuple[float, float, float]:
    """Ottosson 2020: distances in it are about as they are seen."""
    r, g, b = (min(1.0, max(0.0, part)) for part in rgb)
    long = math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    medium = math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    short = math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize(
    ("colours", "ground"),
    [(palette.LIGHT, palette.LIGHT_GROUND), (palette.DARK, palette.DARK_GROUND)],
    ids=["light", "dark"],
)
def test_colours_can_be_told_apart_by_everybody(
    colours: tuple[str, ...], ground: str, sight: str
) -> None:
    assert all(contrast(colour, ground) >= 3 for colour in colours)
    seen = [
        oklab(
            tuple(
                sum(a * b for a, b in zip(row, linear(colour), strict=True)) for row in SIGHT[sight]
            )
        )
        for colour in colours
    ]
    least = min(math.dist(a, b) for n, a in enumerate(seen) for b in seen[:n])
    # Okabe and Ito's own eight come to 0.076; a difference of 0.02 is just seen.
    assert least >= 0.074


def test_a_name_keeps_its_colour_whoever_stands_beside_it() -> None:
    alone = palette.styles([("thread",), ("process",)])
    crowded = palette.styles([("loop", "epoll"), ("loop", "poll"), ("thread",), ("process",)])
    assert alone[("thread",)] == crowded[("thread",)]
    assert crowded[("loop", "epoll")].slot == crowded[("loop", "poll")].slot
    assert crowded[("loop", "epoll")].dashes != crowded[("loop", "poll")].dashes


def test_no_two_lines_look_alike() -> None:
    keys = [(f"model {n}", backend) for n in range(8) for backend in ("epoll", "poll", "select")]
    assert len(set(palette.styles(keys).values())) == len(keys)


def test_cases_that_a_chart_does_not_tell_apart_become_lines_of_their_own() -> None:
    found = results(
        ({"model": "loop", "n": 1, "tls": True}, "m", "s", [1]),
        ({"model": "loop", "n": 1, "tls": False}, "m", "s", [2]),
        ({"model": "pool", "n": 1, "tls": False}, "m", "s", [3]),
    )
    lines = picture(found, "e", chart(series=("model",))).lines
    assert [line.name for line in lines] == [
        "loop, with tls", "loop, without tls", "pool, without tls",
    ]  # fmt: skip


def test_a_chart_shows_the_cases_it_asks_for_in_order_of_size() -> None:
    found = results(
        ({"n": 100, "model": "loop"}, "m", "s", [3, 1, 2]),
        ({"n": 10, "model": "loop"}, "m", "s", [5]),
        ({"n": 10, "model": "pool"}, "m", "s", [7]),
        ({"other": 1}, "m", "s", [9]),
    )
    [line] = picture(found, "e", chart(where={"model": "loop"})).lines
    assert [(point.x, point.summary.median) for point in line.points] == [(10, 5), (100, 2)]
    assert (line.points[1].summary.low, line.points[1].summary.high) == (1, 3)


def test_the_order_of_lines_is_not_that_of_a_shuffled_run() -> None:
    rows = [
        ({"n": n, "model": model}, "m", "s", [1.0])
        for n, model in ((9, "zebra"), (1, "ape"), (10, "process"), (9, "loop"), (9, "thread"))
    ]
    for shuffled in (rows, rows[::-1]):
        lines = picture(results(*shuffled), "e", chart(series=("model",))).lines
        assert [line.name for line in lines] == ["loop", "thread", "process", "ape", "zebra"]
    assert picture(results(*rows), "e", chart(series=("model",))).xs == [1, 9, 10]


def description(*charts: Chart) -> Description:
    return Description(name="e", title="t", question="", method="", command="", charts=charts)


def test_the_best_of_a_column_is_marked_and_whatever_overlaps_with_it() -> None:
    found = results(
        ({"n": 1, "model": "loop"}, "latency", "s", [0.010, 0.012, 0.011]),
        ({"n": 1, "model": "pool"}, "latency", "s", [0.0115, 0.013, 0.014]),
        ({"n": 1, "model": "thread"}, "latency", "s", [0.5]),
        ({"n": 1, "model": "loop"}, "throughput", "1/s", [10]),
        ({"n": 1, "model": "pool"}, "throughput", "1/s", [99]),
        ({"n": 1, "model": "loop"}, "threads", "1", [1]),
        ({"n": 1, "model": "pool"}, "threads", "1", [64]),
    )
    speed, counts = tables(found, description(chart(series=("model",))))
    [group] = speed.groups
    assert [(name, [cell.best for cell in cells]) for name, cells in group.rows] == [
        ("loop", [True, False]),
        ("thread", [False, False]),
        ("pool", [True, True]),
    ]
    assert [column.unit for column in speed.columns] == ["ms", "per second"]
    assert group.rows[1][1][1].text == "–"
    assert group.rows[0][1][0].spread == "10.0 – 12.0"
    assert not counts.marks


def test_who_leaves_clients_waiting_is_not_the_best_of_those_who_do_not() -> None:
    found = results(
        ({"n": 9, "model": "loop"}, "latency p99", "s", [0.010]),
        ({"n": 9, "model": "thread"}, "latency p99", "s", [0.020]),
        ({"n": 9, "model": "iterative"}, "latency p99", "s", [0.001]),
        ({"n": 9, "model": "loop"}, "errors", "1", [0]),
        ({"n": 9, "model": "thread"}, "errors", "1", [0]),
        ({"n": 9, "model": "iterative"}, "errors", "1", [8]),
    )
    speed, counts = tables(found, description(chart(series=("model",))))
    for table in (speed, counts):
        [group] = table.groups
        assert [(name, cell.best) for name, [cell] in group.rows] == [
            ("loop", True),
            ("thread", table is counts),
            ("iterative", False),
        ]


def test_what_is_less_than_nothing_does_not_bend_a_logarithmic_chart() -> None:
    found = results(
        ({"n": 1}, "m", "s", [1.0]), ({"n": 10}, "m", "s", [-5.0]), ({"n": 100}, "m", "s", [2.0])
    )
    [line] = picture(found, "e", chart(log_y=True)).lines
    assert [point.x for point in line.points] == [1, 100]
    [line] = picture(found, "e", chart()).lines
    assert [point.x for point in line.points] == [1, 10, 100]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0, 500, 1000, 1500], ["0", "500", "1,000", "1,500"]),
        ([100, 1000, 10_000], ["100", "1 k", "10 k"]),
        ([0.1, 1, 1024], ["0.1", "1", "1,024"]),
        ([0, 5e5, 1e6], ["0", "500 k", "1 M"]),
    ],
)
def test_marks_of_an_axis_are_written_in_one_way(values: list[float], texts: list[str]) -> None:
    assert units.ticks(values) == texts


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("warmup", 0.5, "0.5 s"),
        ("size", 1024, "1,024 B"),
        ("connections", [1, 10_000], "1, 10,000"),
        ("memory", 25_276_514_304, "23.5 GiB"),
        ("quick", False, "no"),
        ("peers", [], "none"),
    ],
)
def test_settings_are_shown_as_they_were_set(name: str, value: object, text: str) -> None:
    assert words.setting(name, value) == text


def test_a_length_that_was_set_is_no_measurement() -> None:
    assert "0.1 milliseconds" in render(
        results(
            ({"milliseconds": 0.1, "model": "loop"}, "m", "s", [1.0]),
            ({"milliseconds": 0.1, "model": "pool"}, "m", "s", [2.0]),
        )
    )


def test_what_changed_is_what_the_spread_does_not_explain() -> None:
    before = results(
        ({"n": 1}, "latency", "s", [0.010, 0.012]),
        ({"n": 2}, "latency", "s", [0.010, 0.012]),
        ({"n": 3}, "latency", "s", [0.010]),
        ({"n": 1}, "throughput", "1/s", [100, 110]),
        ({"n": 1}, "threads", "1", [1]),
    )
    now = results(
        ({"n": 1}, "latency", "s", [0.011, 0.013]),
        ({"n": 2}, "latency", "s", [0.040, 0.044]),
        ({"n": 4}, "latency", "s", [0.010]),
        ({"n": 1}, "throughput", "1/s", [150, 165]),
        ({"n": 1}, "threads", "1", [2]),
    )
    before = dataclasses.replace(before, settings={"size": 1024, "rounds": 2, "quick": True})
    settings = {"size": 4096, "rounds": 5, "quick": True}
    found = changes(
        dataclasses.replace(now, settings=settings, versions={"python": "3.13"}), before
    )
    assert (found.compared, found.clear, found.new, found.gone) == (4, 3, 1, 1)
    assert (found.better, found.worse) == (1, 1)
    assert found.different == [("size", "1,024 B", "4,096 B"), ("python", "–", "3.13")]
    # The worse one first.
    assert [(each.metric, each.change, each.judgement) for each in found.shown] == [
        ("latency", "× 3.82", "worse"),
        ("threads", "× 2", ""),
        ("throughput", "+50 %", "better"),
    ]


def test_a_change_within_the_tolerance_is_none() -> None:
    before = results(({"n": 1}, "latency", "s", [0.010]), ({"n": 2}, "latency", "s", [0.010]))
    now = results(({"n": 1}, "latency", "s", [0.0105]), ({"n": 2}, "latency", "s", [0.012]))
    assert [each.change for each in changes(now, before).shown] == ["+20 %", "+5 %"]
    assert [each.change for each in changes(now, before, 0.1).shown] == ["+20 %"]
    text = render(now, before, 0.1)
    assert "changed by more than 10 % and their spread: 0 for the better, 1 for the worse" in text


def test_a_run_has_not_changed_against_itself() -> None:
    found = changes(full(), full())
    assert (found.clear, found.new, found.gone) == (0, 0, 0)
    assert found.compared > 100
