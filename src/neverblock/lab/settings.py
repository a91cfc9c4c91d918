"""What a comparison was asked to do; plain values, all of which stand in its results."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: A handler that sends back what it gets, where none is named.
ECHO = "neverblock.lab.handlers:echo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a run. Times are seconds, sizes bytes."""

    experiments: tuple[str, ...] = ("models",)
    handler: str = ECHO
    models: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    """Other event loops that serve as well: names of modules with ``new_event_loop``."""
    connections: tuple[int, ...] = (1, 10, 100, 1_000)
    protocol: str = "echo"
    """What the handler speaks: one of PROTOCOLS."""
    duration: float = 3.0
    """How long the load of a case is measured."""
    warmup: float = 0.5
    """Load before that, which is not measured."""
    rounds: int = 3
    size: int = 1024
    """Of a message."""
    quick: bool = False
    seed: int = 1
    """Of the order of cases in each round."""

    def record(self) -> Mapping[str, Any]:
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


#: What a handler may speak: the scheme that ``neverblock load`` knows it by, and a first message
#: that is answered.
PROTOCOLS: Mapping[str, tuple[str, bytes]] = {
    "echo": ("tcp", b""),
    "redis": ("redis", b"PING\r\n"),
    "http": ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
}
