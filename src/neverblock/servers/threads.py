"""Threads that serve connections to their end: started once, daemons, of a chosen stack.

Daemons: one that is stuck after the drain must not keep the process.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from neverblock.errors import SettingsError

#: threading.stack_size is of the process, and what starts a thread reads it.
_stack = threading.Lock()


class Threads:
    """A fixed number of threads, and a queue of what they have to do, in order."""

    def __init__(self, size: int, name: str, stack_size: int | None = None) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._size = size
        self._name = name
        self._stack_size = stack_size

    def start(self) -> None:
        """Start them all. Raises SettingsError where the system has no room for so many."""
        for number in range(1, self._size + 1):
            try:
                start(self._work, f"{self._name} {number}", self._stack_size)
            except RuntimeError as error:
                self.end()
                raise SettingsError(
                    "pool_size",
                    f"the system has room for {number - 1} of {self._size} threads ({error}); "
                    f"name fewer, or raise the limit (ulimit -u)",
                ) from None

    def submit(self, task: Callable[[], None]) -> None:
        """Let a thread that is free call ``task``, which raises nothing."""
        self._tasks.put(task)

    def end(self) -> None:
        """Let each thread end once it has nothing left to do."""
        for _ in range(self._size):
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()


def start(target: Callable[[], None], name: str, stack_size: int | None) -> None:
    """Start a thread. Raises RuntimeError where the system has no room for it."""
    with sized(stack_size):
        threading.Thread(target=target, name=name, daemon=True).start()


@contextmanager
def sized(stack_size: int | None) -> Iterator[None]:
    """Threads started within have a stack of that many bytes; None: the system's default."""
    if stack_size is None:
        yield
        return
    with _stack:
        before = threading.stack_size(stack_size)
        try:
            yield
        finally:
            threading.stack_size(before)
