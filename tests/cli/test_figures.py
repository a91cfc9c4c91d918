"""Numbers of ``neverblock load`` as people read them."""

from __future__ import annotations

import pytest

from neverblock.cli.figures import duration, line, number, title
from neverblock.load import Plan, Progress


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "–"),
        (0, "0 ns"),
        (0.0009999, "1 ms"),
        (0.000999, "999 µs"),
        (0.01234, "12.3 ms"),
        (0.99996, "1 s"),
        (999.7, "1,000 s"),
        (3600, "3,600 s"),
    ],
)
def test_a_time_is_in_the_unit_that_suits_it_once_it_is_rounded(
    seconds: float | None, told: str
) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "0"), (0.4, "0.4"), (12.34, "12.3"), (999.7, "1,000"), (1e6, "1,000,000")],
)
def test_a_rate_is_told_however_large_or_small(value: float, told: str) -> None:
    assert number(value) == told


@pytest.mark.parametrize(
    ("rate", "told"),
    [(1_000_000, "1,000,000"), (12.5, "12.5"), (0.4, "0.4"), (1000.25, "1,000.25")],
)
def test_what_was_asked_for_is_told_as_it_was_written(rate: float, told: str) -> None:
    plan = Plan(target="tcp://127.0.0.1:7000", connections=1, rate=rate)
    assert title(plan) == f"tcp://127.0.0.1:7000: 1 connection, {told} requests/s by the clock"


def test_one_is_one() -> None:
    plan = Plan(target="tcp://127.0.0.1:7000", connections=1)
    progress = Progress("measuring", 1.0, 1, 0, 1, 1)
    assert line(plan, progress, 1.0) == (
        "measuring 1/10 s · 1/1 connection · 1/s · 1 answer · [red]1 error[/red]"
    )
