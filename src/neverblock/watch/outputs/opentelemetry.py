"""Metrics for OpenTelemetry, by its API alone: the program chooses the SDK and where they go.

- Names, units and attributes are as the semantic conventions have them: dots, ``s``, ``{stall}``.
- What loops count by size is there already when it is asked for, and the API has no instrument for
  that: a histogram takes values one by one alone, and to hand it those of every turn would cost
  more than a turn. So each is a counter with the buckets of Prometheus, cumulated, as the
  attribute ``le``, and a counter of the sum: nothing is estimated, and counts of several processes
  add up, which percentiles would not.
https://opentelemetry.io/docs/specs/semconv/general/naming/
https://github.com/open-telemetry/opentelemetry-specification/issues/2713
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from neverblock.watch.outputs.measures import STALL_BOUNDS, Counts, Measures, label
from neverblock.watch.stall import Stall

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

#: What there is to observe: values, each with its attributes.
Values = list[tuple[float, dict[str, str]]]
Read = Callable[[Counts], Values]

CAUSE: Final = "neverblock.stall.cause"
#: The upper bound of a bucket, the largest "+Inf".
BOUND: Final = "le"

#: Of a loop's histograms: name, unit of what is counted, unit of its sum, and what it tells.
LENGTHS: Final = {
    "turn_seconds": ("turn.duration", "{turn}", "s", "How long turns took"),
    "callback_seconds": (
        "callback.duration", "{callback}", "s", "How long callbacks took, of a sample"
    ),
    "lag_seconds": ("lag", "{callback}", "s", "How long what ran had waited, of a sample"),
    "ready_lengths": ("ready.length", "{turn}", "{callback}", "How much was ready in turns"),
}  # fmt: skip


class OpenTelemetry(Measures):
    """Instruments of ``meter_provider``; None: of the program's own.

    Raises ImportError without the extra ``metrics``.
    """

    def __init__(self, meter_provider: "MeterProvider | None" = None) -> None:
        try:
            from opentelemetry import metrics
        except ModuleNotFoundError:
            raise ImportError(
                "metrics for OpenTelemetry need opentelemetry-api: "
                "pip install 'neverblock[metrics]'"
            ) from None
        from neverblock import __version__

        super().__init__()
        meter = metrics.get_meter("neverblock", __version__, meter_provider)
        self._counter = meter.create_counter(
            "neverblock.loop.stalls", "{stall}", "Stalls that are over."
        )
        self._histogram = meter.create_histogram(
            "neverblock.loop.stall.duration",
            "s",
            "How long stalls were.",
            explicit_bucket_boundaries_advisory=STALL_BOUNDS,
        )
        self._up_down = meter.create_up_down_counter(
            "neverblock.loop.stalled", "{loop}", "Loops that are stalled now."
        )
        self._observe(meter, "turns", "{turn}", "Turns of watched loops.", turns)
        self._observe(meter, "callbacks", "{callback}", "Callbacks that ran.", callbacks)
        for key, (name, unit, unit_of_sum, what) in LENGTHS.items():
            self._observe(meter, f"{name}.bucket", unit, f"{what}: up to le.", buckets_of(key))
            self._observe(meter, f"{name}.sum", unit_of_sum, f"{what}: the sum.", sum_of(key))

    def tell(self, stall: Stall) -> None:
        with self._lock:
            before = self.stalled()
            super().tell(stall)
            more = self.stalled() - before
        if more:
            self._up_down.add(more)
        if not stall.over:
            return
        attributes = {CAUSE: label(stall.cause)}
        self._counter.add(1, attributes)
        self._histogram.record(stall.counted, attributes)

    def _observe(self, meter: "Meter", name: str, unit: str, what: str, read: Read) -> None:
        """A counter of all loops', read when somebody asks."""
        from opentelemetry.metrics import Observation

        def observe(options: "CallbackOptions") -> "Iterable[Observation]":
            return [Observation(value, labels) for value, labels in read(self.loops())]

        meter.create_observable_counter(f"neverblock.loop.{name}", [observe], unit, what)


def turns(counts: Counts) -> Values:
    return [(counts.turns, {})]


def callbacks(counts: Counts) -> Values:
    return [(counts.callbacks, {})]


def buckets_of(key: str) -> Read:
    def read(counts: Counts) -> Values:
        lengths = counts.lengths.get(key)
        return [(n, {BOUND: bound}) for bound, n in lengths.buckets()] if lengths else []

    return read


def sum_of(key: str) -> Read:
    def read(counts: Counts) -> Values:
        lengths = counts.lengths.get(key)
        return [(lengths.sum, {})] if lengths else []

    return read
