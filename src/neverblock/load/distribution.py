"""How long something took, many times: an HDR histogram, told in seconds.

- Values are counted in nanoseconds with 3 significant figures, up to an hour; so every figure
  may be off by 0.1 %, and adding two distributions loses nothing.
- The format and the arithmetic are the `hdrhistogram` package's.
"""

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Nanoseconds; the buckets of recorder.pyx follow from these two.
LONGEST = 3600 * 10**9
FIGURES = 3

SECOND = 1e9
MILLISECOND = 1e6

#: What a summary has, and the percentile of each.
PERCENTILES = {"p50": 50, "p75": 75, "p90": 90, "p99": 99, "p99.9": 99.9, "p99.99": 99.99}


class Distribution:
    """Counts of times. ``encoded``: what ``encode()`` made."""

    def __init__(self, encoded: str | None = None) -> None:
        histogram = hdr_histogram()
        self._histogram = (
            histogram(1, LONGEST, FIGURES) if encoded is None else histogram.decode(encoded)
        )

    @classmethod
    def of(cls, recorded: "Iterable[tuple[int, int]]") -> Self:
        """From pairs of a time, in nanoseconds, and how often it was."""
        made = cls()
        for value, count in recorded:
            made._histogram.record_value(value, count)
        return made

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.encode(),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Distribution) and list(self.pairs()) == list(other.pairs())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Distribution of {self.count}>"

    def add(self, other: "Distribution") -> None:
        """Count what the other has counted, too."""
        self._histogram.add(other._histogram)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._histogram.get_total_count())

    @property
    def max(self) -> float | None:
        """The longest, in seconds; None: there is none."""
        return self._histogram.get_max_value() / SECOND if self.count else None

    @property
    def mean(self) -> float | None:
        """In seconds; None: there is none."""
        return self._histogram.get_mean_value() / SECOND if self.count else None

    def percentile(self, percent: float) -> float | None:
        """The time, in seconds, that so many percent did not exceed; None: there is none."""
        return self.percentiles([percent])[0]

    def percentiles(self, percents: "Iterable[float]") -> list[float | None]:
        """Several at once, which costs no more than one."""
        wanted = list(percents)
        if not self.count:
            return [None] * len(wanted)
        found = self._histogram.get_percentile_to_value_dict(wanted)
        return [found[percent] / SECOND for percent in wanted]

    def above(self, seconds: float) -> float:
        """The share that took longer, 0 to 1."""
        over = sum(count for value, count in self.pairs() if value > seconds * SECOND)
        return over / self.count if self.count else 0.0

    def summary(self) -> dict[str, float | None]:
        """p50 to p99.99, max and mean, in seconds; None where there is nothing."""
        found = dict(zip(PERCENTILES, self.percentiles(PERCENTILES.values()), strict=True))
        return {**found, "max": self.max, "mean": self.mean}

    def encode(self) -> str:
        """In base64: HdrHistogram's compressed format, version 2, which its tools read."""
        encoded: bytes | str = self._histogram.encode()
        return encoded.decode() if isinstance(encoded, bytes) else encoded

    def write(self, path: Path | str) -> None:
        """A table of percentiles in milliseconds: an .hgrm file, for HdrHistogram's plotter."""
        table = io.BytesIO()
        self._histogram.output_percentile_distribution(table, MILLISECOND)
        # The package divides the mean and forgets the deviation, which stands beside it.
        deviation = f"StdDeviation   = {self._histogram.get_stddev() / MILLISECOND:12.{FIGURES}f}]"
        told = re.sub(rb"StdDeviation   = .*\]", deviation.encode(), table.getvalue())
        Path(path).write_bytes(told)

    def pairs(self) -> "Iterable[tuple[int, int]]":
        """Each time that was counted, in nanoseconds, and how often."""
        for item in self._histogram.get_recorded_iterator():
            yield item.value_iterated_to, item.count_added_in_this_iter_step


def hdr_histogram() -> Any:
    """The class. Raises ModuleNotFoundError, with what to install."""
    try:
        from hdrh.histogram import HdrHistogram
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "load needs the package hdrhistogram: pip install 'neverblock[load]'", name=error.name
        ) from None
    return HdrHistogram
