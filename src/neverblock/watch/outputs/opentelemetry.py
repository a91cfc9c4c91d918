"""Metrics for OpenTelemetry, by its API alone: the program chooses the SDK and where they go.

- Names, units and attributes are as the semantic conventions have them: dots, ``s``, ``{stall}``.
https://opentelemetry.io/docs/specs/semconv/general/naming/
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from neverblock.watch.outputs.measures import STALL_BOUNDS, Counts, Measures, label
from neverblock.watch.stall import Stall

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

CAUSE = "neverblock.stall.cause"


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
        for name, unit, what, read in [
            ("turns", "{turn}", "Turns of watched loops.", lambda counts: counts.turns),
            ("callbacks", "{callback}", "Callbacks that ran.", lambda counts: counts.callbacks),
            ("turn.time", "s", "Time that turns took.", turn_time),
        ]:
            meter.create_observable_counter(
                f"neverblock.loop.{name}", [self._observer(read)], unit, what
            )

    def tell(self, stall: Stall) -> None:
        super().tell(stall)
        if not stall.over:
            self._up_down.add(1)
            return
        self._up_down.add(-1)
        attributes = {CAUSE: label(stall.cause)}
        self._counter.add(1, attributes)
        self._histogram.record(stall.duration, attributes)

    def _observer(
        self, read: Callable[[Counts], float]
    ) -> "Callable[[CallbackOptions], Iterable[Observation]]":
        from opentelemetry.metrics import Observation

        return lambda options: [Observation(read(self.loops()))]


def turn_time(counts: Counts) -> float:
    lengths = counts.lengths.get("turn_seconds")
    return lengths.sum if lengths is not None else 0.0
