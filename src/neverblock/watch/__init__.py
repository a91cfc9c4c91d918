"""The watch: tells on which line a loop is stuck, while it is.

- Layers: memory ← walker (frames) ← sampler (stacks of threads) and kernel (proc) ← sentinel (the
  native thread) ← watcher (the reporter's thread) ← Watch (what a program asks for).
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from neverblock.watch.outputs import (
    Annotations,
    Folded,
    JsonLines,
    MetricsFile,
    OpenTelemetry,
    Output,
    Prometheus,
)
from neverblock.watch.overload import Overload, overload_of
from neverblock.watch.stall import Cause, Place, Sample, Share, Stall

if TYPE_CHECKING:
    from neverblock.watch.guard import Guarded
    from neverblock.watch.watcher import Watcher

__all__ = [
    "Annotations",
    "Cause",
    "Folded",
    "JsonLines",
    "MetricsFile",
    "OpenTelemetry",
    "Output",
    "Overload",
    "Place",
    "Prometheus",
    "Sample",
    "Share",
    "Stall",
    "Watch",
    "overload_of",
]

#: Whether this system can be asked why a thread is stuck.
AVAILABLE = sys.platform.startswith("linux")

#: Below this the watch itself would be what takes the time, seconds.
LEAST_THRESHOLD = 0.001


@dataclass(frozen=True)
class Watch:
    """How a loop is watched: ``Loop(watch=Watch())``, ``neverblock.run(main(), watch=Watch())``.

    A callback that runs longer than ``threshold`` seconds, and a turn whose callbacks take longer
    than ``turn_threshold`` together, are told while they go on and when they are over, by the
    logger ``neverblock.watch``. One Watch may be given to any number of loops.

    Raises ValueError for a threshold or a signal that cannot be had, RuntimeError elsewhere than on
    Linux.
    """

    threshold: float = 0.1
    """Seconds that a callback may take."""
    turn_threshold: float | None = None
    """Seconds that the callbacks of one turn may take together; None: as many as one may."""
    signal: int | None = 0
    """What asks a thread that runs for its stack (signal(7)); 0: a real-time signal that nobody
    handles; None: no signal, and Python's own frames alone."""
    on_stall: Callable[[Stall], object] | Literal["log", "shed"] = "log"
    """Called with each Stall as well, when it is found and when it is over (``stall.over``), in
    the watch's thread. "shed": servers accept nothing while the loop stalls again and again."""
    outputs: Sequence[Output] = ()
    """Where else stalls are told: files, metrics, annotations."""
    log_format: Literal["text", "json"] = "text"
    """How the first lines of a stall are written to standard error where the GIL is held, so that
    no logging can be done; "json": an object on a line, with the names of the log's fields."""
    strict: bool = False
    """Let known blocking calls in the loop's thread raise BlockingCallError instead of waiting."""

    def __post_init__(self) -> None:
        if not AVAILABLE:
            raise RuntimeError("the watch needs Linux: it asks proc(5) why a thread is stuck")
        if not LEAST_THRESHOLD <= self.threshold < float("inf"):
            raise ValueError(
                f"threshold must be {LEAST_THRESHOLD} seconds or more, not {self.threshold}"
            )
        if self.turn_threshold is not None and not (
            LEAST_THRESHOLD <= self.turn_threshold < float("inf")
        ):
            raise ValueError(
                f"turn_threshold must be {LEAST_THRESHOLD} seconds or more, or None, not "
                f"{self.turn_threshold}"
            )
        if self.signal is not None and not 0 <= self.signal < 65:
            raise ValueError(f"signal must be a signal's number, 0 or None, not {self.signal}")
        if self.signal:
            from neverblock.watch import sampler

            sampler.check(self.signal)
        if self.on_stall not in ("log", "shed") and not callable(self.on_stall):
            raise ValueError(f'on_stall must be "log", "shed" or a function, not {self.on_stall!r}')
        if self.log_format not in ("text", "json"):
            raise ValueError(f'log_format must be "text" or "json", not {self.log_format!r}')
        for output in self.outputs:
            if not isinstance(output, Output):
                raise ValueError(
                    f'outputs must be outputs, such as JsonLines("stalls.jsonl"), not {output!r}'
                )
        object.__setattr__(self, "outputs", tuple(self.outputs))

    def attach(self, loop: asyncio.AbstractEventLoop) -> "Watcher | Guarded":
        """What watches that loop, once it runs."""
        from neverblock.watch.watcher import Watcher

        called = self.on_stall if callable(self.on_stall) else None
        turn = self.threshold if self.turn_threshold is None else self.turn_threshold
        outputs = (*self.outputs, *([Overload()] if self.on_stall == "shed" else []))
        watcher = Watcher(loop, self.threshold, turn, self.signal, called, outputs, self.log_format)
        if not self.strict:
            return watcher
        from neverblock.watch.guard import Guarded

        return Guarded(watcher)
