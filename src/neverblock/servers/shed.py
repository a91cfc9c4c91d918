"""Giving a loop that is overloaded no more connections, and saying so.

- Everything here runs in the loop's thread. Connections that were accepted are served on; those
  that come wait in the kernel's listen queue.
"""

import asyncio
import logging
from collections.abc import Callable

from neverblock.watch import overload_of

logger = logging.getLogger("neverblock.server")


class Shedding:
    """Tells ``changed`` when accepting is to stop and to go on: for a loop whose watch sheds."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, model: str, changed: Callable[[], None]
    ) -> None:
        self.on = False
        """Whether nothing is to be accepted."""
        self._overload = overload_of(loop)
        self._model = model
        self._changed = changed

    def start(self) -> None:
        """Heed the watch, if there is one that sheds."""
        if self._overload is not None:
            self._overload.subscribe(self._told)

    def stop(self) -> None:
        """Heed it no more."""
        if self._overload is not None:
            self._overload.unsubscribe(self._told)

    def _told(self, reason: str) -> None:
        self.on = bool(reason)
        extra = {"model": self._model}
        if reason:
            logger.warning(
                "the loop is overloaded, %s: accepting no connection until it has recovered",
                reason,
                extra=extra,
            )
        else:
            logger.warning("the loop has recovered: accepting connections again", extra=extra)
        self._changed()
