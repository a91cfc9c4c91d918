"""What stalls take in all: each second is counted once."""

from __future__ import annotations

import re
import time

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry

import neverblock
from neverblock.watch import OpenTelemetry, Prometheus, Stall, Watch, watcher

THRESHOLD = 0.05
SLOW = 0.4
TINY = 10_000


def tiny() -> None:
    end = time.thread_time() + 1e-5
    while time.thread_time() < end:
        pass


def slow() -> None:
    time.sleep(SLOW)


def in_all(summary: str | None) -> float:
    """Seconds of the list that a process ends with."""
    found = re.search(r"blocked \d+ times, ([\d.]+) (m?s) in all", summary or "")
    assert found is not None, summary
    return float(found[1]) * (1e-3 if found[2] == "ms" else 1)


def recorded(reader: InMemoryMetricReader) -> float:
    data = reader.get_metrics_data()
    assert data is not None
    [resource] = data.resource_metrics
    [scope] = resource.scope_metrics
    [histogram] = [each for each in scope.metrics if each.name == "neverblock.loop.stall.duration"]
    return float(sum(point.sum for point in histogram.data.data_points))  # type: ignore[union-attr]


def test_a_callback_that_is_told_within_a_long_turn_is_counted_once() -> None:
    told: list[Stall] = []
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    prometheus = Prometheus(CollectorRegistry())
    watch = Watch(THRESHOLD, on_stall=told.append, outputs=[prometheus, OpenTelemetry(provider)])
    began = time.monotonic()

    def told_twice() -> float:
        """Seconds, at least, that a turn and a callback within it have told both."""
        return sum(stall.duration for stall in told if stall.over) - (time.monotonic() - began)

    try:
        loop = neverblock.Loop(watch=watch)
        try:
            while told_twice() < 1.5 * SLOW:  # again where the watch had no CPU meanwhile
                for callback in (*[tiny] * TINY, slow, *[tiny] * TINY):
                    loop.call_soon(callback)
                loop.call_soon(loop.stop)
                loop.run_forever()
        finally:
            loop.close()
        took = time.monotonic() - began
        text = prometheus.text()
        by_cause = re.findall(r"^neverblock_stall_seconds_total\{.*\} (.*)$", text, re.MULTILINE)
        [lengths] = re.findall(r"^neverblock_stall_duration_seconds_sum (.*)$", text, re.MULTILINE)
        for total in (
            in_all(watcher.ledger.summary()),
            sum(float(seconds) for seconds in by_cause),
            float(lengths),
            recorded(reader),
        ):
            assert SLOW < total < took + SLOW
    finally:
        provider.shutdown()
