"""What came of a run: figures that can be added to those of others without losing any.

- Requests that were due in the measured time are in `latency` if they were answered as they should
  be, whenever that was, and in `errors` if not. Errors are counted from the first connection on.
- Throughput is of the right answers that came within the measured time.
"""

from dataclasses import dataclass, field
from typing import Any, Self

from neverblock.load.distribution import Distribution

#: The share of a core from which on a process has no time to spare.
FULL = 0.95


@dataclass
class Use:
    """What a client process took of its core while it was measured."""

    cpu_seconds: float
    seconds: float
    """How long it was measured."""
    waited: float = 0.0
    """Seconds in which it could have run, and something else ran in its place."""

    @property
    def busy(self) -> float:
        """The share of a core that it used, 0 to 1."""
        return self.cpu_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def full(self) -> bool:
        """Whether it had work all the time, so that it may have held the server up."""
        spent = self.cpu_seconds + self.waited
        return self.seconds > 0 and spent / self.seconds >= FULL


@dataclass
class Idle:
    """The connections that only were there."""

    asked: int = 0
    opened: int = 0
    closed: int = 0
    """Of those, how many the server closed before the end."""


@dataclass
class Result:
    """Figures of a run, or of a part of one. Times are seconds."""

    target: str
    """The server, as a URL; without a password."""
    corrected: bool
    """Whether latency counts from when a request was due (open loop)."""
    seconds: float
    """How long was measured."""
    throughput: float
    """Right answers a second."""
    latency: Distribution
    connect: Distribution
    """How long opening a connection took, with TLS handshake and login where there are any."""
    errors: dict[str, int] = field(default_factory=dict)
    """By kind."""
    examples: dict[str, str] = field(default_factory=dict)
    """What else is known of one error of a kind."""
    bytes_sent: int = 0
    bytes_received: int = 0
    clients: list[Use] = field(default_factory=list)
    """One for each process."""
    late: Distribution = field(default_factory=Distribution)
    """How late the client itself was in sending what was due, connections being free."""
    idle: Idle = field(default_factory=Idle)
    answers: int = 0
    """Right answers from the first connection on, as errors are counted: also to what was due
    before the measured time."""
    interrupted: bool = False
    """Whether it was ended early."""
    began: float | None = None
    """When the measured time began, by the monotonic clock of this machine; None: it did not."""

    @property
    def requests(self) -> int:
        """How many that were due in the measured time were answered as they should be."""
        return self.latency.count

    @property
    def failures(self) -> int:
        """Errors of all kinds."""
        return sum(self.errors.values())

    @property
    def bottleneck(self) -> bool:
        """Whether a client process had no time to spare: then the server may be faster."""
        return any(use.full for use in self.clients)

    @property
    def busy(self) -> float:
        """The largest share of a core that a process used, 0 to 1."""
        return max((use.busy for use in self.clients), default=0.0)

    def merge(self, other: "Result") -> None:
        """Add what others measured of the same target at the same time."""
        self.corrected = self.corrected or other.corrected
        self.seconds = max(self.seconds, other.seconds)
        self.throughput += other.throughput
        self.latency.add(other.latency)
        self.connect.add(other.connect)
        self.late.add(other.late)
        for kind, count in other.errors.items():
            self.fail(kind, other.examples.get(kind, ""), count)
        self.bytes_sent += other.bytes_sent
        self.bytes_received += other.bytes_received
        self.clients += other.clients
        self.idle.asked += other.idle.asked
        self.idle.opened += other.idle.opened
        self.idle.closed += other.idle.closed
        self.answers += other.answers
        self.interrupted = self.interrupted or other.interrupted
        starts = [each for each in (self.began, other.began) if each is not None]
        self.began = min(starts, default=None)

    def fail(self, kind: str, detail: str = "", count: int = 1) -> None:
        """Count errors."""
        self.errors[kind] = self.errors.get(kind, 0) + count
        if detail:
            self.examples.setdefault(kind, detail)

    @classmethod
    def empty(cls, target: str, corrected: bool = False) -> Self:
        """Of nothing: to merge others into."""
        return cls(target, corrected, 0.0, 0.0, Distribution(), Distribution())

    def to_json(self) -> dict[str, Any]:
        """As JSON has it; ``from_json`` makes it whole again."""
        return {
            "target": self.target,
            "requests": self.requests,
            "answers": self.answers,
            "began": self.began,
            "seconds": self.seconds,
            "throughput": self.throughput,
            "latency": self.latency.summary(),
            "connect": self.connect.summary(),
            "errors": dict(sorted(self.errors.items())),
            "examples": dict(sorted(self.examples.items())),
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "client": {
                "processes": len(self.clients),
                "cpu_seconds": sum(use.cpu_seconds for use in self.clients),
                "busy": self.busy,
                "bottleneck": self.bottleneck,
                "late_p99": self.late.percentile(99),
                "each": [vars(use) for use in self.clients],
            },
            "idle": vars(self.idle),
            "corrected": self.corrected,
            "interrupted": self.interrupted,
            "histogram": self.latency.encode(),
            "connect_histogram": self.connect.encode(),
            "late_histogram": self.late.encode(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """From what ``to_json`` made."""
        return cls(
            target=data["target"],
            corrected=data["corrected"],
            seconds=data["seconds"],
            throughput=data["throughput"],
            latency=Distribution(data["histogram"]),
            connect=Distribution(data["connect_histogram"]),
            errors=dict(data["errors"]),
            examples=dict(data["examples"]),
            bytes_sent=data["bytes_sent"],
            bytes_received=data["bytes_received"],
            clients=[Use(**use) for use in data["client"]["each"]],
            late=Distribution(data["late_histogram"]),
            idle=Idle(**data["idle"]),
            answers=data["answers"],
            interrupted=data["interrupted"],
            began=data["began"],
        )
