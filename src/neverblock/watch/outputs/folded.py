"""Stacks in the folded format, which flamegraph.pl and speedscope read.

- A line is a stack, root first, frames between semicolons, and the milliseconds that it took.
- A frame has no semicolon, no line break, and does not end in a number.
- Coroutines that wait for one another stand on the stack while the innermost runs: the await
  chain of a stall is in its frames, and is not added to them. A task that waits for another task
  does not run, and is in no stack.
- Frames have no columns: expressions of one line are one frame, as readers of the format expect.
- It is written whole, when a loop is closed and at exit.
"""

import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping

from neverblock.watch.outputs import files
from neverblock.watch.outputs.output import Output
from neverblock.watch.stall import Place, Sample, Stall

#: What would end a frame or a line for one reader or another.
SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class Folded(Output):
    """Where the stalled time went, as a flame graph. Raises OutputError for a path without use.

    A process forked from the one that made it writes a file of its own, with its process id
    before the suffix; ``per_process`` lets every process do so.
    """

    def __init__(self, path: str | os.PathLike[str], *, per_process: bool = False) -> None:
        self._path = files.absolute(path)
        self._per_process = per_process
        self._seconds: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._lock = threading.RLock()
        files.check_replaceable(self._path)

    def tell(self, stall: Stall) -> None:
        if not stall.over:
            return
        samples = stall.samples or (Sample(stall.stack, 1, stall.counted),)
        with self._lock:
            for sample in samples:
                stack = frames(sample.stack) or (escaped(str(stall.cause)),)
                self._seconds[stack] += sample.seconds

    def flush(self) -> None:
        with self._lock:
            path = files.of_process(self._path) if self._per_process else self._path
            files.replace(path, folded(self._seconds))

    def forget(self) -> None:
        self._lock = threading.RLock()  # Nobody may be left to release the parent's.
        self._seconds.clear()
        self._per_process = True


def frames(stack: Iterable[Place]) -> tuple[str, ...]:
    """Root first, from a stack that is innermost first."""
    return tuple(f"{escaped(place.function)} ({escaped(place.shown)})" for place in stack)[::-1]


def escaped(text: str) -> str:
    return SPACE.sub(" ", text.replace(";", ":")).strip() or "?"


def folded(stacks: Mapping[tuple[str, ...], float]) -> str:
    """The file, from seconds by stack; what took less than a millisecond took one."""
    return "".join(
        f"{';'.join(stack)} {max(round(seconds * 1e3), 1)}\n"
        for stack, seconds in sorted(stacks.items())
    )
