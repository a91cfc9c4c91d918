"""Experiments: one case of each is measured, and its words follow from the numbers."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverblock.lab.experiment import Experiment, Found, bench
from neverblock.lab.experiments import NAMES, load
from neverblock.lab.handlers import BLOCKED
from neverblock.lab.results import Case, Results, Row, Verdict, key
from neverblock.lab.run import described, judged_again
from neverblock.lab.settings import Settings
from neverblock.lab.ways import MODELS

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


def test_no_server_has_more_cores_than_is_said() -> None:
    assert "two cores at most" in load("waiting-or-computing").method
    assert len(bench(SHORT).both_cores) <= 2


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
        "One blocking call in a hundred makes others wait under loop; not under thread"
    )
    assert verdict.text == (
        "The p99 of everybody else. loop: 210 ms instead of 2.00 ms, 105 times as long. "
        "thread: 4.10 ms instead of 4.00 ms. With the call in asyncio.to_thread, the loop's is "
        "3.00 ms. Meanwhile the watch named the line that blocked 4 times in each round, "
        "time.sleep in lab/handlers.py; it tells the same line more and more seldom."
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
    assert verdict.title == (
        "Most gets done by loop and thread where handlers wait, by process where they compute"
    )
    assert "wait 1 ms: loop and thread with up to 9.00 k/s, process least" in verdict.text
    assert verdict.facts["compute 1 ms, process"].value == 1900


def ways_to_serve(rates: Mapping[tuple[str, int], Sequence[float]]) -> Iterable[Row]:
    """Rows of throughput: by way and number of clients, a value for each round."""
    for (way, connections), values in rates.items():
        model, _, backend = way.partition(" ")
        case: Case = {"model": model, **({"backend": backend} if backend else {})}
        for number, value in enumerate(values, 1):
            yield Row(
                experiment="models",
                case={**case, "connections": connections},
                round=number,
                metric="throughput",
                unit="1/s",
                value=value,
            )


def test_ways_that_cannot_be_told_apart_are_not_ranked() -> None:
    rates = {
        ("thread", 1): [9000.0, 9100.0, 8800.0],
        ("loop epoll", 1): [6000.0, 9200.0, 6100.0],  # One round was as good.
        ("loop poll", 1): [5900.0, 6000.0, 6100.0],
        ("loop epoll", 100): [70_000.0, 71_000.0, 72_000.0],
        ("loop poll", 100): [68_000.0, 68_100.0, 68_200.0],  # Within a tenth.
        ("thread", 100): [9000.0, 9100.0, 8800.0],
        ("thread", 1000): [9000.0, 9100.0, 8800.0],
        ("process", 1000): [9000.0, 9100.0, 8800.0],
        ("process", 10_000): [9000.0, 9100.0, 8800.0],  # Nobody beside it.
    }
    [verdict] = load("models").verdicts(Found("models", ways_to_serve(rates)))
    assert verdict.title == (
        "Most answers come from loop and thread with 1 client, from loop with 100 clients"
    )
    assert verdict.text == (
        "Most answers a second, and what cannot be told from it. "
        "1 client: loop (epoll) and thread with up to 9.00 k/s, 1.5 times as much as loop poll "
        "with 6.00 k/s. "
        "100 clients: loop (epoll, poll) with up to 71.0 k/s, 7.9 times as much as thread with "
        "9.00 k/s. "
        "1,000 clients: all alike, with 9.00 k/s."
    )


def test_no_way_is_among_the_best_and_the_worst() -> None:
    # The medians: 100, 75, 70. A round of the last was as good as one of the first.
    figures = {"loop": [80.0, 100.0, 120.0], "thread": [74.0, 75.0, 76.0]}
    figures["process"] = [40.0, 70.0, 95.0]
    rows = list(ways_to_serve({(way, 100): each for way, each in figures.items()}))
    [verdict] = load("models").verdicts(Found("models", rows))
    assert verdict.text.endswith(
        "100 clients: loop and process with up to 100/s, 1.3 times as much as thread with 75.0/s."
    )
    works = [
        dataclasses.replace(
            row,
            experiment="waiting-or-computing",
            case={"model": row.case["model"], "work": "wait", "milliseconds": 1.0},
        )
        for row in rows
    ]
    [verdict] = load("waiting-or-computing").verdicts(Found("waiting-or-computing", works))
    assert verdict.text.endswith(
        "wait 1 ms: loop and process with up to 100/s, thread least with 75.0/s."
    )
    costs = [
        dataclasses.replace(row, metric="cpu", unit="s/request", value=1 / row.value)
        for row in rows
    ]
    [verdict] = load("models").verdicts(Found("models", costs))
    assert verdict.title == (
        "Processor time for an answer: least under loop and process, 1.3 times as much under thread"
    )


def test_who_serves_some_clients_only_is_not_called_cheap() -> None:
    costs = {("loop epoll", 100): 1e-5, ("thread", 100): 3e-5, ("iterative", 100): 1e-6}
    rows = [
        dataclasses.replace(row, metric="cpu", unit="s/request")
        for row in ways_to_serve({way: [value] for way, value in costs.items()})
    ]
    [verdict] = load("models").verdicts(Found("models", rows))
    assert verdict.title == (
        "Processor time for an answer: least under loop (epoll), 3.0 times as much under thread"
    )
    assert verdict.text == (
        "With 100 clients: loop epoll 10.0 µs, thread 30.0 µs. "
        "iterative cannot serve all of them at once."
    )


#: What an experiment has beside what its charts and its table show.
MORE = {
    "c10k": ("threads", "rss", "one more answered within"),
    "blocking-call": ("stalls told with the line",),
}


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(), st.floats(0, 1))
def test_there_are_words_for_any_part_of_a_run(name: str, seed: int, share: float) -> None:
    experiment, chance = load(name), random.Random(seed)
    units = {chart.metric: chart.unit for chart in experiment.charts}
    metrics = dict.fromkeys([*units, *experiment.table, *MORE.get(name, ())])
    rows = [
        Row(
            experiment=name,
            case=case,
            round=number,
            metric=metric,
            unit=units.get(metric, unit(metric)),
            value=0.0 if "memory" in metric and chance.random() < 0.2 else chance.uniform(1e-6, 9),
        )
        for case in experiment.cases(Settings(peers=("uvloop",), connections=(1, 100, 1000)))
        if chance.random() < share
        for metric in metrics
        for number in (1, 2)
    ]
    for verdict in experiment.verdicts(Found(name, rows)):
        assert verdict.title
        assert verdict.text
        known = {(key(row.case), row.metric) for row in rows}
        for fact in verdict.facts.values():
            assert {(key(each["case"]), each["metric"]) for each in fact.rows} <= known


def test_one_bad_round_makes_nobody_pay_for_idle_clients() -> None:
    costs = {
        ("io_uring", 0): [17e-6, 21e-6],
        ("io_uring", 10_000): [24e-6, 84e-6],
        ("poll", 0): [20e-6, 22e-6],
        ("poll", 10_000): [7e-3, 8e-3],
        ("epoll", 0): [40e-6, 21e-6],
        ("epoll", 10_000): [15e-6, 20e-6],
    }
    rows = [
        Row(
            experiment="scanning",
            case={"backend": backend, "active": 10, "idle": idle},
            round=number,
            metric="time per wake-up",
            unit="s",
            value=value,
        )
        for (backend, idle), values in costs.items()
        for number, value in enumerate(values, 1)
    ]
    [verdict] = load("scanning").verdicts(Found("scanning", rows))
    assert verdict.title == "poll pays for every idle client, epoll and io_uring do not"
    assert "54.0 µs beside 10,000 of them, 2.8 times as much, which its rounds do not bear out" in (
        verdict.text
    )
    assert "17.5 µs beside 10,000 of them, no more." in verdict.text


def test_the_command_of_an_experiment_repeats_it() -> None:
    settings = Settings(
        handler="app.py:handle",
        experiments=("models", "scanning"),
        models=("loop", "pool"),
        connections=(1, 10_000),
        duration=0.5,
        rounds=7,
    )
    options = "--models loop,pool --connections 1,10000 --duration 0.5 --rounds 7"
    for name, handler in (("models", "app.py:handle "), ("scanning", "")):
        told = described(load(name), settings).command
        assert told == f"neverblock compare {handler}{options} --experiment {name}"
    quick = Settings(models=MODELS, quick=True, duration=0.5, rounds=1)
    assert described(load("c10k"), quick).command == "neverblock compare --quick --experiment c10k"


def test_an_older_run_is_told_in_the_words_of_today() -> None:
    rates = {("thread", 1): [9000.0], ("loop epoll", 1): [6000.0]}
    before = Results(
        started="",
        command="",
        machine={},
        versions={},
        settings={},
        rows=tuple(ways_to_serve(rates)),
        verdicts=(
            Verdict(experiment="models", title="old words", text=""),
            Verdict(experiment="scanning", title="of rows that are not there", text=""),
            Verdict(experiment="own", title="somebody else's", text=""),
        ),
    )
    again = judged_again(before, [load("models"), load("scanning")])
    assert [verdict.title for verdict in again.verdicts] == [
        "With 1 client most answers come from thread",
        "of rows that are not there",
        "somebody else's",
    ]
    strange = tuple(
        dataclasses.replace(row, experiment="c10k", metric="clients answered", case={})
        for row in before.rows
    )
    other = dataclasses.replace(before.verdicts[0], experiment="c10k")
    odd = dataclasses.replace(before, rows=strange, verdicts=(other,))
    assert judged_again(odd, [load("c10k")]).verdicts == (other,)


def test_the_words_on_a_crowd_follow_from_the_numbers() -> None:
    values = {
        "clients answered": (100.0, 15_000.0),
        "threads": (1.0, 1.0),
        "rss": (2e7, 7e7),
        "rss per connection": (3400.0, 3300.0),
        "one more answered within": (1.4e-4, 1.5e-4),
    }
    rows = [
        (metric, {"backend": "epoll", "connections": count}, value)
        for metric, pair in values.items()
        for count, value in zip((100, 15_000), pair, strict=True)
    ]
    [verdict] = load("c10k").verdicts(found("c10k", rows))
    assert verdict.title == "One thread held 15,000 clients"
    assert verdict.text.endswith(
        "Beside them one client more had its answer within 150 µs; beside 100 it was 140 µs, about "
        "as long."
    )
    assert verdict.facts["clients held and answered"].value == 15_000
