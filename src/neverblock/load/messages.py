"""What client processes and whoever started them tell each other: pickled, over a socket pair."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neverblock.load.plan import Plan

OPENING = "opening"
RAMP = "ramp"
WARMUP = "warm-up"
MEASURING = "measuring"
FINISHING = "finishing"


@dataclass(frozen=True)
class Order:
    """Do this part of the plan."""

    plan: "Plan"
    index: int
    first_source: int
    """The number of the first address to connect from (load/connecting.py)."""


@dataclass(frozen=True)
class Ready:
    """What has to be open is, or cannot be."""

    opened: int


@dataclass(frozen=True)
class Go:
    """Start at this moment, in nanoseconds of the monotonic clock."""

    began: int


@dataclass(frozen=True)
class Stop:
    """End now, with the figures so far."""


@dataclass(frozen=True)
class Refused:
    """It cannot be done as planned."""

    error: Exception


@dataclass(frozen=True)
class Progress:
    """How far a run is. Counts are since its beginning, warm-up included."""

    phase: str
    """``"opening"``, ``"ramp"``, ``"warm-up"``, ``"measuring"`` or ``"finishing"``."""
    elapsed: float
    """Seconds since the start."""
    connections: int
    """Open now, the idle ones aside."""
    idle: int
    """Idle ones, open now."""
    requests: int
    """Answered as they should be."""
    errors: int

    def plus(self, other: "Progress") -> "Progress":
        """Of both processes together."""
        return Progress(
            self.phase,
            max(self.elapsed, other.elapsed),
            self.connections + other.connections,
            self.idle + other.idle,
            self.requests + other.requests,
            self.errors + other.errors,
        )
