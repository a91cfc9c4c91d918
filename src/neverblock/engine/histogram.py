"""What a loop has counted by size: how often which length occurred.

- A copy: it does not change any more.
- The bounds are the same for all, and those of buckets.pxd.
"""

import math
from dataclasses import dataclass
from typing import Final

#: Values below this have a bucket each; above, every power of two has half as many.
EXACT: Final = 16
#: As many as buckets.pxd has.
BUCKETS: Final = 304


def largest(bucket: int) -> int:
    """The largest value of a bucket."""
    if bucket < EXACT:
        return bucket
    shift = bucket // 8 - 1
    return ((bucket % 8 + 9) << shift) - 1


#: The largest value of each bucket, in whole numbers; the last bucket has no end.
LARGEST: Final = tuple(largest(bucket) for bucket in range(BUCKETS))
SECONDS: Final = tuple(value * 1e-9 for value in LARGEST)
NUMBERS: Final = tuple(float(value) for value in LARGEST)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Values by size. Of times all is in seconds."""

    bounds: tuple[float, ...]
    """The largest value of each bucket; the last has no end."""
    counts: tuple[int, ...]
    """How many values fell into each."""
    sum: float
    """All values together."""
    max: float
    """The largest value, exactly; 0 where there is none."""

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """0 where there is none."""
        count = self.count
        return self.sum / count if count else 0.0

    def percentile(self, percent: float) -> float:
        """What so many percent of the values do not exceed: at most an eighth above the truth.

        0 where there is no value. Raises ValueError outside 0 to 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"percent must be from 0 to 100, not {percent}")
        rank = max(math.ceil(self.count * percent / 100), 1)
        for bound, count in zip(self.bounds, self.counts, strict=True):
            rank -= count
            if rank <= 0:
                return min(bound, self.max)
        return self.max

    def at_most(self, bound: float) -> int:
        """How many values lie in buckets that end at ``bound`` or below."""
        return sum(
            count for end, count in zip(self.bounds, self.counts, strict=True) if end <= bound
        )

    def since(self, before: "Histogram") -> "Histogram":
        """What came after an earlier one of the same loop. ``max`` is known to a bucket only."""
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        last = max((bucket for bucket, count in enumerate(counts) if count), default=None)
        largest = 0.0 if last is None else min(self.bounds[last], self.max)
        if last == len(counts) - 1:
            largest = self.max
        return Histogram(self.bounds, counts, self.sum - before.sum, largest)
