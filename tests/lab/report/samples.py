"""Results as a full run would write them: every kind of chart, names that bite."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

from neverblock.lab.results import Case, Chart, Description, Missing, Results, Row, Verdict, load

SAMPLE = Path(__file__).parents[1] / "sample.json"
HOSTILE = '<script>alert("x")</script>&amp; \'"'


def full() -> Results:
    """The lab's own sample, and what it has not: bars, points, booleans, single lines."""
    results = load(SAMPLE)
    return dataclasses.replace(
        results,
        experiments=(*results.experiments, *EXPERIMENTS),
        rows=(*results.rows, *rows()),
        missing=(*results.missing, *MISSING),
        verdicts=(*results.verdicts, *VERDICTS),
    )


def rows() -> Iterator[Row]:
    chance = random.Random(1)
    for experiment, metric, unit, cases in MEASURED:
        for case, value in cases:
            for number in (1, 2, 3):
                yield Row(
                    experiment=experiment,
                    case=case,
                    round=number,
                    metric=metric,
                    unit=unit,
                    value=value * chance.uniform(0.94, 1.08),
                )


def described(name: str, title: str, *charts: Chart) -> Description:
    return Description(
        name=name,
        title=title,
        question="What does it cost?",
        method="Measured, with care.",
        command=f"neverblock compare --experiment {name}",
        charts=charts,
    )


MODELS = ("loop", "thread", "pool", "process", "workers", "iterative")
MEASURED: tuple[tuple[str, str, str, list[tuple[Case, float]]], ...] = (
    (
        "client-cost",
        "pss per connection",
        "B/connection",
        [
            ({"model": "loop"}, 3400),
            ({"model": "thread"}, 28e3),
            ({"model": "process"}, 1.9e6),
        ],
    ),
    (
        "client-cost",
        "time to first answer",
        "s",
        [({"model": "loop"}, 1.6e-4), ({"model": "thread"}, 2.3e-4), ({"model": "pool"}, 4e-3)],
    ),
    (
        "blocking-call",
        "latency p99",
        "s",
        [
            ({"model": model, "call": call}, value)
            for model, *values in (
                ("loop", 0.0018, 0.21, 0.0025),
                ("thread", 0.004, 0.0051, 0.006),
                ("pool", 0.0034, 0.2, 0.2),
                ("process", 0.010, 0.0103, 0.011),
            )
            for call, value in zip(
                ("no blocking call", "sleeps 200 ms", "to_thread"), values, strict=True
            )
        ],
    ),
    ("c10k", "round trip", "s", [({"connections": n}, 2e-5 * n) for n in (1000, 5000, 15_000)]),
    (
        "waiting-or-computing",
        "throughput",
        "1/s",
        [
            ({"model": model, "milliseconds": length}, rate / length)
            for model, rate in (("loop", 19_000), ("thread", 9_000), ("process", 2_300))
            for length in (1, 10, 100)
        ],
    ),
    (
        "c10k",
        "served",
        "1",
        [({"connections": n}, n / 1.0) for n in (1000, 5000, 15_000)],
    ),
    (
        "own",
        "requests <b>",
        "1/s",
        [({"handler": HOSTILE, "tls": tls}, 1000.0 + 500 * tls) for tls in (True, False)]
        + [({"handler": "a_handler_with_a_name_that_is_longer_than_any_label", "tls": True}, 10.0)],
    ),
)  # fmt: skip
EXPERIMENTS = (
    described(
        "client-cost",
        "What a client costs",
        Chart(
            metric="pss per connection",
            unit="B/connection",
            title="Memory of a client",
            x="model",
            kind="bar",
            log_y=True,
        ),
        Chart(
            metric="time to first answer",
            unit="s",
            title="From connect to first answer",
            x="model",
            kind="bar",
        ),
    ),
    described(
        "blocking-call",
        "One blocking call",
        Chart(
            metric="latency p99",
            unit="s",
            title="Everybody else's p99",
            x="model",
            series=("call",),
            kind="bar",
            log_y=True,
        ),
    ),
    described(
        "c10k",
        "C10k and beyond",
        Chart(metric="round trip", unit="s", title="Each asked once", x="connections", log_x=True),
    ),
    described(
        "waiting-or-computing",
        "Waiting or computing",
        Chart(
            metric="throughput",
            unit="1/s",
            title="Answers a second",
            x="milliseconds",
            series=("model",),
            kind="grid",
        ),
    ),
    described(
        "own",
        HOSTILE,
        Chart(
            metric="requests <b>",
            unit="1/s",
            title=HOSTILE,
            x="handler",
            series=("tls",),
            kind="bar",
        ),
    ),
)
MISSING = (Missing(experiment="own", case={"handler": HOSTILE, "tls": True}, reason=HOSTILE),)
VERDICTS = (Verdict(experiment="own", title=HOSTILE, text=HOSTILE),)
