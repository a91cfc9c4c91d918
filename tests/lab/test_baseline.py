"""A run beside an older one: what moved, what became worse, whether the order is the same."""

from typing import Any

import pytest

from neverblock.lab.baseline import changes, gone
from neverblock.lab.results import Missing, Results, Row, key


def results(*figures: tuple[dict[str, Any], str, list[float]], missing: Any = ()) -> Results:
    rows = [
        Row(experiment="e", case=case, round=number, metric=metric, unit=unit(metric), value=value)
        for case, metric, values in figures
        for number, value in enumerate(values, 1)
    ]
    return Results(
        started="",
        command="",
        machine={},
        versions={},
        settings={},
        rows=tuple(rows),
        missing=tuple(Missing(experiment="e", case=case, reason="no") for case in missing),
    )


def unit(metric: str) -> str:
    counts = ("threads", "errors", "clients answered")
    return {"throughput": "1/s"}.get(metric, "1" if metric in counts else "s")


@pytest.mark.parametrize(
    ("metric", "before", "after", "worse"),
    [
        ("throughput", [100.0], [80.0], True),
        ("throughput", [100.0], [120.0], False),
        ("throughput", [100.0], [95.0], False),
        ("latency p99", [1.0, 1.1, 0.9], [1.5, 1.6, 1.4], True),
        ("latency p99", [1.0, 1.1, 0.9], [0.5, 0.6, 0.4], False),
        ("latency p99", [1.0, 2.0, 0.9], [1.5, 1.6, 1.4], False),  # Among those of before.
        ("threads", [1.0], [100.0], False),
        ("errors", [0.0], [5.0], True),
        ("errors", [0.0], [0.0], False),
        ("clients answered", [100.0], [80.0], True),
        ("memory", [-10.0], [100.0], True),  # Memory that was used again is less than none.
    ],
)
def test_what_became_worse(
    metric: str, before: list[float], after: list[float], worse: bool
) -> None:
    [change] = changes(results(({"a": 1}, metric, before)), results(({"a": 1}, metric, after)))
    assert change.worse(0.1) == worse


def test_only_what_both_have_is_compared() -> None:
    old = results(({"a": 1}, "m", [1.0]), ({"a": 2}, "m", [1.0]))
    new = results(({"a": 1}, "m", [1.0]), ({"a": 3}, "m", [1.0]), missing=[{"a": 2}, {"a": 4}])
    assert [change.case for change in changes(old, new)] == [key({"a": 1})]
    assert gone(old, new) == [("e", key({"a": 2}))]


def test_cases_are_told_as_they_were_written() -> None:
    case = {"model": "loop", "backend": "epoll", "connections": 10}
    [change] = changes(results((case, "m", [1.0])), results((case, "m", [2.0])))
    assert list(change.written) == ["model", "backend", "connections"]
