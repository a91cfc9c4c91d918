"""Experiments: one case of each is measured, and its words follow from the numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from neverblock.lab.experiment import Experiment, Found, bench
from neverblock.lab.experiments import NAMES, load
from neverblock.lab.handlers import BLOCKED
from neverblock.lab.results import Case, Row
from neverblock.lab.settings import Settings

SHORT = Settings(duration=1.0, warmup=0.1, quick=True)


def measured(name: str, **case: Any) -> Mapping[str, float]:
    return {metric.name: metric.value for metric in load(name).measure(case, bench(SHORT))}


def found(name: str, rows: Iterable[tuple[str, Case, float]]) -> Found:
    return Found(
        name,
        [
            Row(experiment=name, case=case, round=1, metric=metric, unit=unit(metric), value=value)
            for metric, case, value in rows
        ],
    )


def unit(metric: str) -> str:
    if metric.startswith("latency") or metric.endswith("within"):
        return "s"
    return {"throughput": "1/s", "rss": "B", "rss per connection": "B/connection"}.get(metric, "1")


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_is_whole(name: str) -> None:
    experiment: Experiment = load(name)
    cases = experiment.cases(dataclasses.replace(SHORT, peers=("asyncio",)))
    assert cases
    assert len({tuple(sorted(case.items())) for case in cases}) == len(cases)
    for chart in experiment.charts:
        asked = [case for case in cases if chart.where.items() <= case.items()]
        assert any(chart.x in case for case in asked)
        assert all(any(part in case for case in asked) for part in chart.series)
    assert experiment.verdicts(found(name, [])) == []


def test_clients_are_held_by_one_thread() -> None:
    metrics = measured("c10k", backend="poll", connections=50)
    assert metrics["clients answered"] == 50
    assert metrics["threads"] == 1
    assert metrics["rss"] > 50 * metrics["rss per connection"]


def test_what_a_blocking_call_does_to_the_others_is_seen_and_told() -> None:
    stopped = measured("blocking-call", model="loop", call="one in 100 blocks")
    assert stopped["calls that blocked"] >= 1
    assert stopped["latency max"] > BLOCKED / 2
    assert stopped["stalls told with the line"] >= 1


def test_a_call_in_a_thread_stalls_nobody() -> None:
    handed = measured("blocking-call", model="loop", call="one in 100, to_thread")
    assert handed["calls that blocked"] >= 1
    assert handed["stalls told with the line"] == 0


@pytest.mark.parametrize(("model", "work"), [("loop", "wait"), ("pool", "compute")])
def test_work_is_done(model: str, work: str) -> None:
    metrics = measured("waiting-or-computing", model=model, work=work, milliseconds=5.0)
    assert metrics["throughput"] > 0
    assert metrics["latency p50"] >= 0.005
    assert metrics["served at once"] == {"loop": 100, "pool": 64}[model]


def test_the_words_on_a_blocking_call_follow_from_the_numbers() -> None:
    p99 = {
        ("loop", "nothing blocks"): 0.002,
        ("loop", "one in 100 blocks"): 0.21,
        ("loop", "one in 100, to_thread"): 0.003,
        ("thread", "nothing blocks"): 0.004,
        ("thread", "one in 100 blocks"): 0.0041,
    }
    rows = [("latency p99", {"model": m, "call": c}, value) for (m, c), value in p99.items()]
    told = ("stalls told with the line", {"model": "loop", "call": "one in 100 blocks"}, 4.0)
    [verdict] = load("blocking-call").verdicts(found("blocking-call", [*rows, told]))
    assert verdict.title == (
        "One blocking call in a hundred stops everybody under loop; not under thread"
    )
    assert verdict.text == (
        "The p99 of everybody else. loop: 210 ms instead of 2.00 ms, 105 times as long. "
        "thread: 4.10 ms instead of 4.00 ms. With the call in asyncio.to_thread, the loop's is "
        "3.00 ms. Meanwhile the watch told 4 stalls in each round, with the line that blocked: "
        "time.sleep in lab/handlers.py."
    )
    assert verdict.facts["loop with to_thread, p99 of the others"].value == 0.003
    assert all(fact.rows for fact in verdict.facts.values())


def test_the_words_on_waiting_and_computing_follow_from_the_numbers() -> None:
    rates = {
        ("wait", "loop"): 9000.0,
        ("wait", "thread"): 8500.0,
        ("wait", "process"): 3000.0,
        ("compute", "loop"): 1000.0,
        ("compute", "thread"): 950.0,
        ("compute", "process"): 1900.0,
    }
    rows = [
        ("throughput", {"model": model, "work": work, "milliseconds": 1.0}, rate)
        for (work, model), rate in rates.items()
    ]
    [verdict] = load("waiting-or-computing").verdicts(found("waiting-or-computing", rows))
    assert verdict.title == "Most gets done – waiting: loop and thread; computing: process"
    assert "wait 1 ms: loop and thread with 9.00 k/s, process least with 3.00 k/s." in verdict.text
    assert verdict.facts["compute 1 ms, process"].value == 1900


def test_the_words_on_a_crowd_follow_from_the_numbers() -> None:
    values = {
        "clients answered": (100.0, 15_000.0),
        "threads": (1.0, 1.0),
        "rss": (2e7, 7e7),
        "rss per connection": (3400.0, 3300.0),
        "one more answered within": (1.5e-4, 1.6e-4),
    }
    rows = [
        (metric, {"backend": "epoll", "connections": count}, value)
        for metric, pair in values.items()
        for count, value in zip((100, 15_000), pair, strict=True)
    ]
    [verdict] = load("c10k").verdicts(found("c10k", rows))
    assert verdict.title == "One thread held 15,000 clients"
    assert verdict.text.endswith("beside 100 it was 150 µs, about as long.")
    assert verdict.facts["clients held and answered"].value == 15_000
