"""What the loops of a server's workers have counted, added up.

- Workers are forked from the process under measurement, and nobody but the kernel knows them: their
  supervisor asks each by a signal, and each answers by a socket that it was forked with. They are
  asked between two callbacks of theirs, and serve as they would without.
- The signal is SIGURG: who does not expect it ignores it.
- The supervisor's own loop, which accepts for them, does not count.
"""

import asyncio
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Final

from neverblock import Loop
from neverblock.lab.tree import read, tasks

SIGNAL: Final = signal.SIGURG
#: Seconds that all answers may take.
PATIENCE: Final = 2.0
#: Bytes of an answer, at most.
LONGEST: Final = 4096


class Census:
    """Asks all workers; made by their supervisor, in its loop, before they are forked."""

    def __init__(self, told: Callable[[Mapping[str, int]], None]) -> None:
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._left: set[int] = set()
        """Workers whose answer has not come."""
        self._sum: Counter[str] = Counter()
        self._overdue: asyncio.TimerHandle | None = None
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock in (self._ours, self._theirs):
            sock.setblocking(False)
        self._loop.add_reader(self._ours, self._heard)
        os.register_at_fork(after_in_child=self._forked)

    def take(self) -> None:
        """Call ``told`` with the sum, soon; with nothing where one of them does not answer.

        Not twice for a question that was asked before the last one had its answer.
        """
        if self._overdue is not None:
            return
        self._sum = Counter()
        self._left = children()
        self._overdue = self._loop.call_later(PATIENCE, self._finish)
        for pid in tuple(self._left):
            try:
                os.kill(pid, SIGNAL)
            except ProcessLookupError:
                self._left.discard(pid)
        if not self._left:
            self._finish()

    def _heard(self) -> None:
        with suppress(BlockingIOError):
            while True:
                pid, counted = json.loads(self._ours.recv(LONGEST))
                if pid in self._left:
                    self._left.discard(pid)
                    self._sum.update(counted)
                    if not self._left:
                        self._finish()

    def _finish(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        left, self._left = self._left, set()
        # One that died on the way took its counts along: no sum would be right.
        self._told({} if left else self._sum)

    def _forked(self) -> None:
        signal.signal(SIGNAL, self._asked)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        """In a worker."""
        with suppress(RuntimeError, OSError):  # It has no loop yet, or nobody reads.
            loop = asyncio.get_running_loop()
            counted = loop.statistics()["multiplexer"] if isinstance(loop, Loop) else {}
            self._theirs.send(json.dumps([os.getpid(), counted]).encode())


def children() -> set[int]:
    """Processes that this one has started and that have not ended."""
    here = os.getpid()
    return {int(pid) for task in tasks(here) for pid in read(task / "children").split()}
