"""Metrics of stalls and of loops, as Prometheus and OpenTelemetry read them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import neverblock
from neverblock.errors import OutputError
from neverblock.watch import Cause, MetricsFile, OpenTelemetry, Prometheus, Stall, Watch
from neverblock.watch.everywhere import every_loop
from tests.servers.serving import exactly, served
from tests.watch.outputs.stalling import BLOCKED, THRESHOLD, program, stall

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in {"counter", "gauge", "histogram"}
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def test_prometheus_reads_stalls_and_loops() -> None:
    output = Prometheus(CollectorRegistry())
    _, over = stall(output)
    samples = parsed(output.text())
    cause = (("cause", "sleeping"),)
    assert samples["neverblock_stalls_total", cause] == 1
    assert samples["neverblock_stall_seconds_total", cause] == pytest.approx(over.duration)
    assert samples["neverblock_stalls_total", (("cause", "gil_held"),)] == 0
    assert samples["neverblock_stall_duration_seconds_count", ()] == 1
    assert samples["neverblock_stall_duration_seconds_sum", ()] == pytest.approx(over.duration)
    name = "neverblock_stall_duration_seconds_bucket"
    assert samples[name, (("le", "0.05"),)] == 0
    assert samples[name, (("le", "60.0"),)] == samples[name, (("le", "+Inf"),)] == 1
    assert samples["neverblock_loops_stalled", ()] == 0
    assert samples["neverblock_loop_turns_total", ()] >= 2
    assert samples["neverblock_loop_callbacks_total", ()] >= 2
    assert samples["neverblock_loop_turn_seconds_count", ()] >= 1
    assert samples["neverblock_loop_turn_seconds_sum", ()] >= BLOCKED
    assert ("neverblock_loop_lag_seconds_bucket", (("le", "+Inf"),)) in samples


def test_a_registry_has_them_and_refuses_them_twice() -> None:
    registry = CollectorRegistry()
    output = Prometheus(registry)
    assert generate_latest(registry).decode() == output.text()
    with pytest.raises(ValueError, match="give one Prometheus"):
        Prometheus(registry)
    default = Prometheus()
    try:
        assert "neverblock_stalls_total" in generate_latest().decode()
    finally:
        REGISTRY.unregister(default)


def test_a_stall_that_goes_on_is_seen_from_another_thread() -> None:
    output = Prometheus(CollectorRegistry())

    def wait_for_it() -> bool:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if parsed(output.text())["neverblock_loops_stalled", ()] == 1:
                return True
        return False

    async def main() -> None:
        # The loop waits for the very thread that looks.
        future = asyncio.get_running_loop().run_in_executor(None, wait_for_it)
        time.sleep(0.001)
        looking = future._loop._default_executor  # type: ignore[attr-defined]
        looking.shutdown(wait=True)
        assert await future

    neverblock.run(main(), watch=Watch(threshold=THRESHOLD, outputs=[output]))
    assert parsed(output.text())["neverblock_loops_stalled", ()] == 0


def test_a_loop_is_stalled_once_however_many_of_its_stalls_go_on() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    try:
        prometheus, opentelemetry = Prometheus(CollectorRegistry()), OpenTelemetry(provider)
        turn = Stall(0.2, Cause.TURN, None, callbacks=9, loop=1)
        callback, other = (Stall(0.1, Cause.SLEEPING, None, loop=loop) for loop in (1, 2))
        began, over = [turn, callback, other], [callback, other, turn]
        told = [*began, *(replace(stall, over=True) for stall in over)]
        for stall, stalled in zip(told, [1, 1, 2, 2, 1, 0], strict=True):
            prometheus.tell(stall)
            opentelemetry.tell(stall)
            assert parsed(prometheus.text())["neverblock_loops_stalled", ()] == stalled
            _, [point] = opentelemetry_points(reader)["neverblock.loop.stalled"]
            assert point.value == stalled
    finally:
        provider.shutdown()


def test_counts_of_closed_loops_stay() -> None:
    output = Prometheus(CollectorRegistry())
    watch = Watch(outputs=[output])
    seen = []
    for _ in range(3):
        neverblock.run(asyncio.sleep(0), watch=watch)
        seen.append(parsed(output.text())["neverblock_loop_turns_total", ()])
    assert seen == sorted(set(seen))


def test_a_loop_that_is_watched_anew_in_each_run_is_counted_once() -> None:
    output = Prometheus(CollectorRegistry())
    end = every_loop(Watch(outputs=[output]))
    try:
        loop = neverblock.Loop()
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))
        turns = loop.statistics()["turns"]
        assert parsed(output.text())["neverblock_loop_turns_total", ()] == turns
        loop.close()
    finally:
        end()


def test_the_number_of_series_is_bounded() -> None:
    output = Prometheus(CollectorRegistry())
    before = parsed(output.text()).keys()
    for number in range(100):
        cause = list(Cause)[number % len(Cause)]
        output.tell(Stall(number, cause, None, over=True, task=f"task-{number}"))
    assert parsed(output.text()).keys() == before
    assert len(before) < 100


def opentelemetry_points(reader: InMemoryMetricReader) -> dict[str, tuple[Any, list[Any]]]:
    data = reader.get_metrics_data()
    assert data is not None
    [resource] = data.resource_metrics
    [scope] = resource.scope_metrics
    assert scope.scope.name == "neverblock"
    found = {}
    for metric in scope.metrics:
        assert metric.description
        found[metric.name] = metric, list(metric.data.data_points)
    return found


def test_opentelemetry_reads_them() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    try:
        _, over = stall(OpenTelemetry(provider))
        found = opentelemetry_points(reader)
    finally:
        provider.shutdown()
    units = {name: metric.unit for name, (metric, _) in found.items()}
    assert units == {
        "neverblock.loop.stalls": "{stall}",
        "neverblock.loop.stall.duration": "s",
        "neverblock.loop.stalled": "{loop}",
        "neverblock.loop.turns": "{turn}",
        "neverblock.loop.callbacks": "{callback}",
        "neverblock.loop.turn.duration.bucket": "{turn}",
        "neverblock.loop.turn.duration.sum": "s",
        "neverblock.loop.callback.duration.bucket": "{callback}",
        "neverblock.loop.callback.duration.sum": "s",
        "neverblock.loop.lag.bucket": "{callback}",
        "neverblock.loop.lag.sum": "s",
        "neverblock.loop.ready.length.bucket": "{turn}",
        "neverblock.loop.ready.length.sum": "{callback}",
    }
    points = {
        name: points[0] for name, (_, points) in found.items() if not name.endswith(".bucket")
    }
    assert points["neverblock.loop.stalls"].value == 1
    assert points["neverblock.loop.stalls"].attributes == {"neverblock.stall.cause": "sleeping"}
    assert points["neverblock.loop.stall.duration"].sum == pytest.approx(over.duration)
    assert points["neverblock.loop.stall.duration"].explicit_bounds[0] == 0.01
    assert points["neverblock.loop.stalled"].value == 0
    assert points["neverblock.loop.turns"].value >= 2


HISTOGRAMS = {
    "turn_seconds": "turn.duration",
    "callback_seconds": "callback.duration",
    "lag_seconds": "lag",
    "ready_lengths": "ready.length",
}


def buckets(reader: InMemoryMetricReader, name: str) -> dict[str, float]:
    _, points = opentelemetry_points(reader)[f"neverblock.loop.{name}.bucket"]
    return {point.attributes["le"]: point.value for point in points}


async def work() -> None:
    """Many turns, of which one is long, with little or much that is ready."""
    loop = asyncio.get_running_loop()
    for number in range(400):
        for _ in range(number % 20):
            loop.call_soon(int)
        await asyncio.sleep(0)
    time.sleep(0.03)


def test_both_have_the_histograms_of_a_loops_statistics() -> None:
    prometheus, reader = Prometheus(CollectorRegistry()), InMemoryMetricReader()
    provider = MeterProvider([reader])
    try:
        outputs = [prometheus, OpenTelemetry(provider)]
        loop = neverblock.Loop(watch=Watch(threshold=60, outputs=outputs))
        loop.run_until_complete(work())
        statistics = loop.statistics()
        samples, found = parsed(prometheus.text()), opentelemetry_points(reader)
        loop.close()
        for key, name in HISTOGRAMS.items():
            expected = statistics[key]
            counts = buckets(reader, name)
            for le, count in counts.items():
                wanted = expected.count if le == "+Inf" else expected.at_most(float(le))
                labels = (("le", le),)
                assert count == samples[f"neverblock_loop_{key}_bucket", labels] == wanted
            assert list(counts.values()) == sorted(counts.values())
            _, [total] = found[f"neverblock.loop.{name}.sum"]
            assert total.value == samples[f"neverblock_loop_{key}_sum", ()] == expected.sum
        assert buckets(reader, "turn.duration")["0.025"] < statistics["turn_seconds"].count
        assert buckets(reader, "ready.length")["1.0"] < statistics["ready_lengths"].count
    finally:
        provider.shutdown()


def test_each_reader_has_all_counts_also_as_differences() -> None:
    delta = {ObservableCounter: AggregationTemporality.DELTA}
    whole, parts = InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=delta)
    provider = MeterProvider([whole, parts])
    try:
        watch = Watch(threshold=60, outputs=[OpenTelemetry(provider)])
        neverblock.run(work(), watch=watch)
        first = buckets(parts, "ready.length")
        neverblock.run(work(), watch=watch)
        second = buckets(parts, "ready.length")
        for le, count in buckets(whole, "ready.length").items():
            assert count == first[le] + second[le]
        assert first["+Inf"] >= 400
        assert second["+Inf"] >= 400
    finally:
        provider.shutdown()


def test_a_file_is_written_while_a_loop_is_watched(tmp_path: Path) -> None:
    path = tmp_path / "app.prom"
    turns = "neverblock_loop_turns_total", ()
    read: list[float] = []

    async def main() -> None:
        async with asyncio.timeout(60):
            while len(set(read)) < 3:  # written again and again, with new numbers
                await asyncio.sleep(0.01)
                read.append(parsed(path.read_text())[turns])

    output = MetricsFile(path, interval=0.02)
    neverblock.run(main(), watch=Watch(threshold=THRESHOLD, outputs=[output]))
    assert read == sorted(read)
    assert parsed(path.read_text())[turns] >= read[-1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_one_process_among_several_has_its_label_and_goes(tmp_path: Path) -> None:
    pid = str(os.getpid())
    path = tmp_path / f"app.{pid}.prom"

    async def main() -> None:
        samples = parsed(path.read_text())
        assert samples["neverblock_loops_stalled", (("pid", pid),)] == 0
        assert all(("pid", pid) in labels for _, labels in samples)

    output = MetricsFile(tmp_path / "app.prom", per_process=True)
    neverblock.run(main(), watch=Watch(threshold=THRESHOLD, outputs=[output]))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_at_first_is_written_later(tmp_path: Path) -> None:
    path, obstacle = tmp_path / "app.prom", tmp_path / f"app.prom.{os.getpid()}.tmp"
    obstacle.mkdir()  # Where the file is written before it is put in its place.

    async def main() -> None:
        assert not path.exists()
        obstacle.rmdir()
        async with asyncio.timeout(60):
            while not path.exists():
                await asyncio.sleep(0.01)

    output = MetricsFile(path, interval=0.02)
    neverblock.run(main(), watch=Watch(threshold=60, outputs=[output]))


def test_a_forked_process_on_another_loop_leaves_no_file_behind(tmp_path: Path) -> None:
    text = """\
        import asyncio, os, sys
        import neverblock
        from neverblock.watch import MetricsFile, Watch
        from neverblock.watch.everywhere import every_loop

        async def main():
            assert child or f"app.{os.getpid()}.prom" in os.listdir(), os.listdir()

        every_loop(Watch(outputs=[MetricsFile("app.prom")]))
        child = os.fork()
        asyncio.run(main())
        if child:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], cwd=tmp_path, timeout=60, check=False
    )
    assert done.returncode == 0
    assert [each.name for each in tmp_path.iterdir()] == ["app.prom"]


def test_what_cannot_be_had_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        MetricsFile(tmp_path / "nothing" / "app.prom")
    with pytest.raises(ValueError, match="interval"):
        MetricsFile(tmp_path / "app.prom", interval=0)


@pytest.mark.parametrize(
    ("missing", "expression"),
    [("prometheus_client", "Prometheus()"), ("opentelemetry", "OpenTelemetry()")],
)
def test_without_the_extra_it_is_said_what_to_install(
    tmp_path: Path, missing: str, expression: str
) -> None:
    done = program(
        tmp_path,
        f"""\
        import sys
        sys.modules[{missing!r}] = None
        from neverblock import watch
        watch.{expression}
        """,
    )
    assert done.returncode == 1
    assert "pip install 'neverblock[metrics]'" in done.stderr


APP = f"""\
import time

async def handle(stream):
    async for chunk in stream:
        time.sleep({BLOCKED})
        await stream.send(chunk)
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_server_writes_all_of_them(tmp_path: Path, workers: str) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP)
    options = [
        *("--workers", workers, "--stall-threshold", str(THRESHOLD)),
        *("--stall-log", str(tmp_path / "s.jsonl"), "--stall-profile", str(tmp_path / "s.folded")),
        *("--metrics-file", str(tmp_path / "s.prom"), "--stall-annotations"),
    ]
    with served(f"{app}:handle", *options) as server:
        with server.connect() as client:
            client.sendall(b"!")
            assert exactly(client, 1) == b"!"
            server.wait_until_logged("loop free again after")
        [metrics] = tmp_path.glob("*.prom")
        parsed(metrics.read_text())
        assert server.stop() == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read().count("::warning ") == 1
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 2
    [profile] = tmp_path.glob("*.folded")
    assert "handle (" in profile.read_text()
    if workers == "0":
        assert profile.name == "s.folded"
        samples = parsed((tmp_path / "s.prom").read_text())
        assert samples["neverblock_stalls_total", (("cause", "sleeping"),)] == 1
    else:
        assert profile.name.removeprefix("s.").removesuffix(".folded").isdigit()
        assert not list(tmp_path.glob("*.prom"))


def test_a_server_refuses_a_file_at_the_start(tmp_path: Path) -> None:
    done = neverblock_serve(tmp_path, "--stall-threshold", "0.1", "--workers", "2")
    assert done.returncode == 2
    assert done.stderr.startswith("neverblock: --stall-log: cannot write ")
    done = neverblock_serve(tmp_path, "--model", "thread")
    assert done.returncode == 2
    assert "choose the model loop" in done.stderr


def neverblock_serve(directory: Path, *options: str) -> Any:
    (directory / "app.py").write_text(APP)
    command = [sys.executable, "-m", "neverblock", "serve", "app.py:handle", *options]
    return subprocess.run(
        [*command, "--bind", "tcp://127.0.0.1:0", "--stall-log", "nothing/s.jsonl"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
