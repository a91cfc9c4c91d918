"""What a comparison was asked to do; plain values, all of which stand in its results."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from neverblock.lab.ways import MODELS

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
    duration: float = 2.0
    """How long the load of a case is measured in a round."""
    warmup: float = 0.5
    """Load before that, which is not measured."""
    rounds: int = 5
    size: int = 1024
    """Of a message."""
    quick: bool = False
    seed: int = 1
    """Of the order of cases in each round."""

    def options(self, handler: bool) -> list[str]:
        """What to type for the same, without the experiments; the handler only where it matters."""
        typed = [self.handler] if handler and self.handler != ECHO else []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("experiments", "handler", "seed") or value == field.default:
                continue
            if field.name in ("duration", "warmup", "rounds") and self.quick:
                continue
            if field.name == "models" and value == MODELS:
                continue
            typed.append(f"--{field.name}")
            if isinstance(value, tuple):
                typed.append(",".join(map(str, value)))
            elif not isinstance(value, bool):
                typed.append(f"{value:g}" if isinstance(value, float) else str(value))
        return typed

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
