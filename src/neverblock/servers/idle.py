"""The idle timeout of the loop model: one timer a connection, and a time noted at each wait.

The timer looks where the connection stands when it could be due, and sets itself anew from what
it finds, so that neither a byte nor a wait costs a timer.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

logger = logging.getLogger("neverblock.server")

Data = TypeVar("Data")


class Waiting(Protocol):
    """A connection whose peer may keep it waiting."""

    @property
    def peer(self) -> str: ...
    @property
    def waits_for_peer(self) -> bool:
        """Whether nothing goes on until the peer sends or takes something."""

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not yet taken."""

    def abort(self, reason: str) -> None: ...


class IdleTimer:
    """Aborts a connection whose peer keeps it waiting for ``timeout`` seconds, in which nothing
    came that was waited for, and nothing was taken of what is sent."""

    __slots__ = ("_connection", "_loop", "_since", "_timeout", "_timer", "_unsent")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout: float, connection: Waiting
    ) -> None:
        self._loop = loop
        self._timeout = timeout
        self._connection = connection
        self._unsent = 0
        self._since = loop.time()
        self._timer = loop.call_later(timeout, self._look)

    def touch(self) -> None:
        """A wait begins, or a byte came that does not end it."""
        self._since = self._loop.time()
        self._unsent = self._connection.unsent

    def send(self, write: Callable[[Data], None], data: Data) -> None:
        """``write(data)``. What that adds to the unsent must not hide what the peer takes."""
        self._note()
        write(data)
        self._note()

    def cancel(self) -> None:
        """Look no more. The connection is over."""
        self._timer.cancel()

    def _note(self) -> None:
        """Note what is unsent: is it less than before, the peer has taken some."""
        unsent = self._connection.unsent
        if unsent < self._unsent:
            self._since = self._loop.time()
        self._unsent = unsent

    def _look(self) -> None:
        self._note()
        now = self._loop.time()
        if not self._connection.waits_for_peer:
            self._since = now
        if now - self._since >= self._timeout:
            reason = f"idle for {self._timeout:g} s"
            peer = self._connection.peer
            logger.info("closing %s: %s", peer, reason, extra={"peer": peer})
            self._connection.abort(reason)
        else:
            self._timer = self._loop.call_at(self._since + self._timeout, self._look)
