"""What a comparison says in the terminal of another, in whole words."""

from __future__ import annotations

from rich.console import Console

from neverblock.lab.baseline import changes
from neverblock.lab.order import levels, pairs
from neverblock.lab.results import Results, Row
from neverblock.lab.terminal import show_changes, show_order


def run(metric: str, unit: str, **values: float) -> Results:
    """One round, a value for each model."""
    rows = tuple(
        Row(
            experiment="models",
            case={"model": model, "connections": 1},
            round=1,
            metric=metric,
            unit=unit,
            value=value,
        )
        for model, value in values.items()
    )
    return Results(started="", command="", machine={}, versions={}, settings={}, rows=rows)


def told(before: Results, after: Results, tolerance: float) -> str:
    shown = Console(width=200)
    with shown.capture() as captured:
        show_changes(changes(before, after), [], [], tolerance, shown)
        show_order(pairs(before, after), levels(before, after), tolerance, shown)
    return captured.get()


def test_what_was_nothing_has_not_grown_by_a_number_of_times() -> None:
    text = told(run("errors", "1", loop=0), run("errors", "1", loop=3), 0.005)
    assert "1 median in both, 1 moved by more than 0.5%, 1 for the worse" in text
    assert "from 0" in text
    assert "inf" not in text


def test_one_pair_is_told_as_one() -> None:
    before = run("throughput", "1/s", loop=100, thread=99)
    after = run("throughput", "1/s", loop=99, thread=100)
    text = told(before, after, 0.1)
    assert "in 0 of 1 (0.0%) pairs; of the 1 other 1 was within 10% of each other" in text
    assert "within 10% of before: 2 of 2" in text
