"""The ways to serve that are compared, and what each is called with."""

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from neverblock import multiplexers
from neverblock.errors import DescriptorLimitError
from neverblock.lab import words
from neverblock.lab.results import Case

#: Names for --models. ``workers`` is the loop model with WORKERS of them.
MODELS: Final = ("loop", "workers", "iterative", "process", "thread", "pool")
WORKERS: Final = 2
#: Loops beside ours that --peers may name; any module with ``new_event_loop`` will do.
PEERS: Final = ("asyncio", "uvloop", "rloop")

#: Descriptors of a server that are no connections, with room to spare.
SPARE: Final = 16


@dataclass(frozen=True, slots=True)
class Way:
    """One way to serve."""

    model: str
    backend: str | None = None
    peer: str | None = None

    @property
    def case(self) -> Case:
        items = {"model": self.model, "backend": self.backend, "loop": self.peer}
        return {name: value for name, value in items.items() if value is not None}

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.model, self.backend, self.peer)))

    @property
    def at_once(self) -> int | None:
        """Clients that it serves at once; None: as many as come."""
        return {"iterative": 1, "pool": 64}.get(self.model)

    @property
    def counts(self) -> bool:
        """Whether it waits by loops of ours, which count what their multiplexers do."""
        return self.backend is not None or self.model == "workers"

    def options(self, connections: int) -> dict[str, Any]:
        """Settings of a server that is to bear so many connections."""
        options: dict[str, Any] = {"model": self.model, "backlog": 4096, "drain_timeout": 1.0}
        if self.model == "workers":
            options |= {"model": "loop", "workers": WORKERS}
        if self.model in ("process", "thread"):
            options["max_connections"] = connections + SPARE
        return options

    def obstacle(self) -> str | None:
        """Why it cannot be had here at all; None: it can."""
        if self.backend is not None:
            reason = multiplexers.available().get(self.backend, "unknown")
            return None if reason is None else f"{self.backend} {reason}"
        if self.peer is not None and not importable(self.peer):
            return f"{self.peer} is not installed; pip install {self.peer}"
        return None

    def limit(self, connections: int) -> str | None:
        """Why it cannot bear so many connections, in the words of its own error; None: it can."""
        if self.backend is None or self.model == "workers":
            return None
        return limit_of(self.backend, connections)


def importable(module: str) -> bool:
    """Whether a server started here could import it; the packages that it is in are."""
    here = os.getcwd()  # Where `python -m` looks first, and an installed command does not.
    sys.path.insert(0, here)
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
    finally:
        sys.path.remove(here)


def limit_of(backend: str, connections: int) -> str | None:
    with multiplexers.create(backend) as multiplexer:
        limit = multiplexer.limit
    if limit < 0 or connections + SPARE <= limit:
        return None
    return str(DescriptorLimitError(backend, limit, limit))


def listed(cases: Iterable[Case]) -> str:
    """In a sentence, in the order of MODELS: ``loop (epoll, poll), workers and thread``."""
    found: dict[str, list[str]] = {}
    for way in sorted(map(of, cases), key=place):
        found.setdefault(way.model, []).extend(filter(None, [way.backend, way.peer]))
    return words.listed(
        f"{model} ({', '.join(waits)})" if waits else model for model, waits in found.items()
    )


def place(way: Way) -> int:
    """For sorting; backends and loops of a model stay in the order they have."""
    return MODELS.index(way.model) if way.model in MODELS else len(MODELS)


def of(case: Case) -> Way:
    """The way of a case that was made of one."""
    model, backend, peer = (case.get(name) for name in ("model", "backend", "loop"))
    return Way(str(model), str(backend) if backend else None, str(peer) if peer else None)


def backends() -> tuple[str, ...]:
    """Those of this system, and those that it forbids: it is told that they are missing."""
    found = multiplexers.available().items()
    return tuple(name for name, reason in found if not (reason or "").startswith("not on"))


def every(
    models: tuple[str, ...], backends: tuple[str, ...], peers: tuple[str, ...]
) -> Iterator[Way]:
    """Each model once; the loop model for each backend, and on each other loop."""
    for model in models:
        if model == "loop":
            yield from (Way(model, backend=backend) for backend in backends)
            yield from (Way(model, peer=peer) for peer in peers)
        else:
            yield Way(model)
