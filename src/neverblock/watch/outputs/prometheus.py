"""Metrics for Prometheus: a collector in a registry, or a file for node_exporter.

- Names and units are as https://prometheus.io/docs/practices/naming has them.
- The numbers are read when they are asked for, by whoever asks.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from neverblock.watch.outputs import files
from neverblock.watch.outputs.measures import Counts, Lengths, Measures, label
from neverblock.watch.outputs.output import attempt, made
from neverblock.watch.stall import Cause

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import HistogramMetricFamily, Metric


class Prometheus(Measures):
    """A collector of ``prometheus_client``, registered in ``registry`` or in its default one.

    Raises ImportError without the extra ``metrics``, ValueError where another one is registered.
    """

    def __init__(self, registry: "CollectorRegistry | None" = None) -> None:
        require()
        from prometheus_client import REGISTRY

        super().__init__()
        try:
            (registry or REGISTRY).register(self)
        except ValueError:
            raise ValueError(
                "this registry has the metrics of a watch already: give one Prometheus() to all "
                "loops, or each a registry of its own"
            ) from None

    def describe(self) -> "list[Metric]":
        return list(families(self, None))

    def collect(self) -> "Iterator[Metric]":
        return families(self, None)

    def text(self) -> str:
        """These metrics alone, in Prometheus' text format."""
        return text_of(self, None)


class MetricsFile(Measures):
    """The same in a file, written anew every ``interval`` seconds while a loop is watched.

    For the textfile collector of node_exporter, which wants a name that ends in ``.prom``.
    ``per_process``: a file for each process, with its process id before the suffix and as a label;
    it is removed when the process watches no loop any more, or ends. Raises OutputError for a path
    without use, ImportError without the extra ``metrics``.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, interval: float = 5.0, per_process: bool = False
    ) -> None:
        require()
        if not 0 < interval < float("inf"):
            raise ValueError(f"interval must be more than 0 seconds, not {interval}")
        super().__init__()
        self._path = files.absolute(path)
        self._interval = interval
        self._per_process = per_process
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        files.check_replaceable(self._path)

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        super().begin(loop)
        with self._lock:
            if self._thread is None:
                self._ended = threading.Event()
                thread = threading.Thread(
                    target=self._write_again,
                    args=(self._ended,),
                    name="neverblock-metrics",
                    daemon=True,
                )
                thread.start()
                self._thread = thread
        self.write()  # It may fail now, and not the next time.

    def flush(self) -> None:
        super().flush()
        with self._lock:
            watches = bool(self._loops)
            thread = None if watches else self._dismissed()
        wait_for(thread)
        if watches or not self._per_process:
            self.write()
        else:
            self._unlink()

    def end(self) -> None:
        """The process ends: leave no file that is its alone."""
        with self._lock:
            thread = self._dismissed()
        wait_for(thread)
        if self._per_process:
            self._unlink()

    def _dismissed(self) -> threading.Thread | None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ended.set()
        return thread

    def _unlink(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(files.of_process(self._path))

    def forget(self) -> None:
        super().forget()
        self._thread = None
        self._per_process = True

    def write(self) -> None:
        """Write it now. Raises OSError."""
        with self._lock:
            if self._per_process:
                files.replace(files.of_process(self._path), text_of(self, str(os.getpid())))
            else:
                files.replace(self._path, text_of(self, None))

    def _write_again(self, ended: threading.Event) -> None:
        while not ended.wait(self._interval):
            attempt(self, self.write)


def wait_for(thread: threading.Thread | None) -> None:
    if thread is not None and thread is not threading.current_thread():
        thread.join(1.0)


def at_exit() -> None:
    """A loop that is not ours is watched no more after each run, and may be closed later: nobody
    else removes the file then."""
    for output in list(made):
        if isinstance(output, MetricsFile):
            attempt(output, output.end)


atexit.register(at_exit)


def require() -> None:
    try:
        import prometheus_client  # noqa: F401
    except ModuleNotFoundError:
        raise ImportError(
            "metrics for Prometheus need prometheus-client: pip install 'neverblock[metrics]'"
        ) from None


def text_of(measures: Measures, pid: str | None) -> str:
    from prometheus_client import CollectorRegistry, generate_latest

    class Once:
        def collect(self) -> "Iterator[Metric]":
            return families(measures, pid)

    registry = CollectorRegistry()
    registry.register(Once())
    return generate_latest(registry).decode()


def families(measures: Measures, pid: str | None) -> "Iterator[Metric]":
    """Every metric; ``pid``: with that label."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    names, values = (["pid"], [pid]) if pid is not None else ([], [])
    loops: Counts = measures.loops()
    with measures._lock:
        stalls = CounterMetricFamily(
            "neverblock_stalls", "Stalls that are over.", labels=["cause", *names]
        )
        seconds = CounterMetricFamily(
            "neverblock_stall_seconds",
            "Time that loops were stalled.",
            labels=["cause", *names],
        )
        for cause in Cause:
            stalls.add_metric([label(cause), *values], measures._stalls[cause])
            seconds.add_metric([label(cause), *values], measures._seconds[cause])
        yield stalls
        yield seconds
        yield histogram(
            "neverblock_stall_duration_seconds", "How long stalls were.", measures._lengths, pid
        )
        going_on = GaugeMetricFamily(
            "neverblock_loops_stalled", "Loops that are stalled now.", labels=names
        )
        going_on.add_metric(values, measures.stalled())
        yield going_on
    for name, help_, count in [
        ("neverblock_loop_turns", "Turns of watched loops.", loops.turns),
        ("neverblock_loop_callbacks", "Callbacks that watched loops ran.", loops.callbacks),
    ]:
        counter = CounterMetricFamily(name, help_, labels=names)
        counter.add_metric(values, count)
        yield counter
    for name, lengths in loops.lengths.items():
        yield histogram(f"neverblock_loop_{name}", HELP[name], lengths, pid)


HELP = {
    "turn_seconds": "How long turns of watched loops took.",
    "callback_seconds": "How long callbacks took, of a sample of them.",
    "lag_seconds": "How long what ran had waited for its turn, of a sample of it.",
    "ready_lengths": "How much was ready to run in turns of watched loops.",
}


def histogram(name: str, help_: str, lengths: Lengths, pid: str | None) -> "HistogramMetricFamily":
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, help_, labels=["pid"] if pid is not None else [])
    family.add_metric(
        [pid] if pid is not None else [],
        [(bound, float(count)) for bound, count in lengths.buckets()],
        sum_value=lengths.sum,
    )
    return family
