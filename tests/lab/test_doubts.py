"""What a run says against its own figures, and whether that comes true."""

from __future__ import annotations

import random
from statistics import median

import pytest

from neverblock.lab.doubts import agreeing, limited, rounds_for, varied
from neverblock.lab.results import Row


def rows(*figures: tuple[str, list[float]]) -> list[Row]:
    """Of a case each: a metric, and its value in each round."""
    return [
        Row(experiment="e", case={"n": n}, round=number, metric=metric, unit="", value=value)
        for n, (metric, values) in enumerate(figures)
        for number, value in enumerate(values, 1)
    ]


def test_it_is_told_where_clients_had_no_time_to_spare() -> None:
    [told] = limited(rows(("client busy", [0.99, 0.5]), ("client busy", [0.9])))
    assert told.startswith("in 1 case the clients' core was busy")
    assert limited(rows(("client busy", [0.5]))) == []


def test_it_is_told_where_rounds_do_not_agree() -> None:
    def run(spread: float, wild: int) -> list[str]:
        steady = [("throughput", [100.0, 100 + spread])] * (10 - wild)
        return varied(rows(*steady, *[("throughput", [100.0, 300.0])] * wild))

    assert run(10, 0) == []
    assert run(10, 1) == []
    [told] = run(10, 2)
    assert told.startswith("2 of 10 figures vary by more than half")
    [told] = run(30, 0)
    assert told == (
        "rounds differ: from lowest to highest a figure typically varies by 26%; another such run "
        "would have about 32% of its medians within 10% of these, and 90% with --rounds 33"
    )
    assert varied(rows(("throughput", [1.0]))) == ["one round only"]


def test_rounds_that_differ_and_are_many_are_enough() -> None:
    many = [100.0, 102.0, 98.0, 101.0, 99.0] * 12
    assert varied(rows(("throughput", [*many, 120.0, 90.0]))) == [
        "rounds differ: from lowest to highest a figure typically varies by 30%"
    ]


def test_a_round_without_an_answer_says_nothing_of_the_others() -> None:
    told, *_ = varied(rows(("throughput", [0.0, 100.0, 140.0])))
    assert "of these, and 90% with --rounds" in told
    assert varied(rows(("throughput", [0.0, 0.0, 0.0]))) == []
    told, *_ = varied(rows(("throughput", [0.0, 100.0])))
    assert "--rounds" not in told


@pytest.mark.parametrize("deviation", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("number", [5, 20])
def test_as_many_medians_agree_as_was_said(deviation: float, number: int) -> None:
    assert together(deviation, number) == pytest.approx(agreeing(deviation, number), abs=0.05)


@pytest.mark.parametrize("deviation", [0.1, 0.2, 0.5])
def test_the_rounds_that_were_said_to_be_enough_are(deviation: float) -> None:
    enough = rounds_for(deviation)
    assert together(deviation, enough) == pytest.approx(0.9, abs=0.03)
    assert agreeing(deviation, enough) >= 0.9


def together(deviation: float, number: int, pairs: int = 1000) -> float:
    """The share of pairs of medians of such rounds that lie within 10 % of each other."""
    chance = random.Random(1)

    def middle() -> float:
        return median(chance.lognormvariate(0, deviation) for _ in range(number))

    near = 0
    for _ in range(pairs):
        one, other = middle(), middle()
        near += max(one / other, other / one) <= 1.1
    return near / pairs
