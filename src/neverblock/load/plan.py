"""What to do to which server: the plan of a run, checked when it is made.

- A plan is frozen, holds plain values alone and can be pickled: child processes and other machines
  get the same.
- What only the system can answer (names, limits of descriptors, files) is found out when it runs.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, fields
from typing import Any

from neverblock import multiplexers
from neverblock.errors import PlanError
from neverblock.load.messages import FINISHING, MEASURING, RAMP, WARMUP
from neverblock.load.target import Target, masked

#: Commands of the redis protocol that a mix may have.
COMMANDS = ("ping", "set", "get")

#: The largest message, in bytes: several copies of it are held.
LARGEST = 1024**3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Load for one server. Times are seconds, sizes are bytes. Raises PlanError.

    The run takes ``ramp + warmup + duration`` seconds, and at most ``timeout`` more.
    """

    target: str
    """Whom to ask, as a URL: ``tcp://``, ``tls://`` or ``unix://`` (a server that sends back what
    it gets), ``redis://`` or ``rediss://`` with ``USER:PASSWORD@`` where it wants them,
    ``http://`` or ``https://``."""
    connections: int = 50
    """Open at once, in all processes together."""
    duration: float = 10.0
    """How long is measured."""
    rate: float | None = None
    """Requests a second in all, by the clock (open loop); None: each connection sends when it has
    its answer (closed loop)."""
    size: int = 1024
    """Of a message (raw echo) or a value (Redis)."""
    ramp: float = 0.0
    """Time in which connections, and the rate, grow to what they are to be; not measured."""
    warmup: float = 0.0
    """Time under full load before it is measured."""
    idle: int = 0
    """Connections that are held open beside the others and never say anything."""
    processes: int = 1
    """Client processes that share the connections and the rate evenly."""
    pipeline: int = 1
    """Requests in flight on a connection at most."""
    timeout: float = 10.0
    """For an answer, and for opening a connection."""
    mix: str = "get=9,set=1"
    """Of a Redis server: how many of each command, out of ping, set and get."""
    keys: int = 1000
    """Of a Redis server: how many keys are set and got."""
    ca: str | None = None
    """A file of certificates (PEM) to trust instead of the system's."""
    insecure: bool = False
    """Whether any certificate is good enough."""
    cores: tuple[int, ...] = ()
    """CPUs to pin the processes to, in turn; empty: wherever the system puts them."""
    backend: str | None = None
    """What the client's loops wait with; None: the best there is."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            words = WORDS[str(field.type).removesuffix(" | None")]
            if not kind_fits(str(field.type), value):
                raise PlanError(field.name, f"must be {words}, not {value!r}")
        target = Target.parse(self.target)
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value:
                raise PlanError(name, f"must be {least} at least, not {value}")
        for name in ("duration", "rate", "timeout"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise PlanError(name, f"must be more than 0, not {value:g}")
        if self.processes > self.connections:
            raise PlanError(
                "processes",
                f"{self.processes} processes cannot share {self.connections} "
                f"connection{'' if self.connections == 1 else 's'}; "
                "ask for as many connections at least",
            )
        if self.size > LARGEST:
            raise PlanError("size", f"must be {LARGEST} at most, not {self.size}")
        if not target.secure and (self.insecure or self.ca is not None):
            name = "insecure" if self.insecure else "ca"
            raise PlanError(name, f"{target.scheme}:// has no certificates; leave it out")
        if target.protocol == "redis":
            weights(self.mix)
        if self.cores:
            self._check_cores()
        if self.backend is not None:
            obstacle = multiplexers.available().get(self.backend, "there is no such backend")
            if obstacle is not None:
                raise PlanError("backend", f"{self.backend}: {obstacle}")

    def _check_cores(self) -> None:
        if not hasattr(os, "sched_setaffinity"):
            raise PlanError("cores", "this system does not let a process choose; leave it out")
        allowed = os.sched_getaffinity(0)
        for core in self.cores:
            if core not in allowed:
                listed = ", ".join(map(str, sorted(allowed)))
                raise PlanError("cores", f"there is no CPU {core} here; there are {listed}")

    def phase(self, elapsed: float) -> str:
        """What happens so many seconds after the start."""
        for phase, lasts in ((RAMP, self.ramp), (WARMUP, self.warmup), (MEASURING, self.duration)):
            if elapsed < lasts:
                return phase
            elapsed -= lasts
        return FINISHING

    @property
    def parsed(self) -> Target:
        """The target, taken apart."""
        return Target.parse(self.target)

    @property
    def shown(self) -> str:
        """The target for people: without its password."""
        return self.target if self.parsed.password is None else masked(self.target)

    def __repr__(self) -> str:
        """Without the password: it may end in a log."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["target"] = masked(self.target)
        return f"Plan({', '.join(f'{name}={value!r}' for name, value in values.items())})"


#: What a value has to be, by its annotation.
WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple[int, ...]": "a tuple of whole numbers",
}

#: The least that each may be.
LEAST = {
    "connections": 1,
    "size": 1,
    "ramp": 0,
    "warmup": 0,
    "idle": 0,
    "processes": 1,
    "pipeline": 1,
    "keys": 1,
}


def kind_fits(kind: str, value: Any) -> bool:
    """Whether a value is of the type that an annotation names."""
    if value is None:
        return kind.endswith("| None")
    if isinstance(value, bool):
        return kind == "bool"
    match kind.removesuffix(" | None"):
        case "float":
            return isinstance(value, int | float) and math.isfinite(value)
        case "tuple[int, ...]":
            return isinstance(value, tuple) and all(type(each) is int for each in value)
        case name:
            return type(value).__name__ == name


def weights(mix: str) -> dict[str, int]:
    """``get=9,set=1`` as numbers. Raises PlanError."""
    found: dict[str, int] = {}
    for part in mix.split(","):
        match = re.fullmatch(r"\s*([A-Za-z]+)\s*(?:=\s*(\d{1,4}))?\s*", part)
        name = match[1].lower() if match else ""
        if match is None or name not in COMMANDS:
            raise PlanError("mix", f"write commands of {', '.join(COMMANDS)}, like get=9,set=1")
        if name in found:
            raise PlanError("mix", f"{name} is there twice")
        found[name] = int(match[2] or 1)
    if not any(found.values()):
        raise PlanError("mix", "one command at least has to be more than 0")
    return found
