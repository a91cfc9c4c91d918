"""Two runs as wholes: the order of the ways to serve, and their level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neverblock.lab.order import levels, pairs
from neverblock.lab.results import Results, Row


def run(rates: Mapping[str, Sequence[float]], connections: Sequence[int] = (1,)) -> Results:
    """Throughput of each model, round by round; 0: it was not measured in that round."""
    rows = [
        Row(
            experiment="models",
            case={"model": model, "connections": count},
            round=number,
            metric="throughput",
            unit="1/s",
            value=value,
        )
        for count in connections
        for model, values in rates.items()
        for number, value in enumerate(values, 1)
        if value
    ]
    return Results(started="", command="", machine={}, versions={}, settings={}, rows=tuple(rows))


def test_the_order_of_ways_is_that_of_before_or_not() -> None:
    before = run({"loop": [100.0], "thread": [50.0], "process": [48.0]}, (1, 10))
    after = run({"loop": [105.0], "thread": [45.0], "process": [49.0]}, (1, 10))
    compared = pairs(before, after)
    assert len(compared) == 6  # Of those with 1 client, and with 10.
    swapped = [pair for pair in compared if not pair.same]
    assert len(swapped) == 2
    assert {
        frozenset({dict(pair.one)["model"], dict(pair.other)["model"]}) for pair in swapped
    } == {frozenset({"thread", "process"})}
    assert all(0.04 < pair.closeness < 0.05 for pair in swapped)


def test_a_slow_round_is_slow_for_both() -> None:
    # By the medians of their rounds the pool would be faster: 90 against 80.
    rates = {"loop": [100.0, 80.0, 60.0], "pool": [90.0, 0.0, 50.0]}
    [pair] = pairs(run(rates), run(rates))
    assert pair.before > 1
    assert pair.same


def test_ways_without_a_round_in_common_have_no_order() -> None:
    rates = {"loop": [100.0, 0.0], "pool": [0.0, 50.0]}
    assert pairs(run(rates), run(rates)) == []


def test_what_all_ways_have_in_common_is_told_from_what_is_their_own() -> None:
    before = run({"loop": [100.0], "thread": [50.0], "process": [20.0]})
    after = run({"loop": [80.0], "thread": [40.0], "process": [20.0]})
    found = {dict(each.case)["model"]: each for each in levels(before, after)}
    assert {each.common for each in found.values()} == {0.8}
    assert found["loop"].own == 1.0
    assert found["process"].change == 1.0
    assert found["process"].own == 1.25


def test_what_one_run_has_alone_is_left_out() -> None:
    before = run({"loop": [100.0], "thread": [50.0]})
    after = run({"loop": [100.0], "process": [50.0]})
    assert pairs(before, after) == []
    assert [dict(each.case)["model"] for each in levels(before, after)] == ["loop"]
