"""Stopping: SIGTERM or SIGINT starts the drain, a second one ends it; what is left is aborted."""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

logger = logging.getLogger("neverblock.server")


class Drainable(Protocol):
    """A server that can come to its end."""

    def stop_accepting(self) -> None: ...
    def end_input(self) -> None: ...
    async def wait_idle(self) -> None: ...
    def abort(self) -> int: ...


class Stop:
    """Told once, a server drains; told twice, it ends at once. In the loop's thread."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def request(self, by: str) -> None:
        """Stop, because of ``by``."""
        if self.first.is_set():
            self.second.set()
        else:
            logger.info("%s: draining; once more to stop at once", by)
            self.first.set()


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Take SIGTERM and SIGINT in the running loop, for as long as this lasts."""
    loop = asyncio.get_running_loop()
    stop = Stop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.request, number.name)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def drain(server: Drainable, timeout: float | None, hurry: asyncio.Event) -> int:
    """Let open connections finish within ``timeout`` seconds, or until ``hurry`` is set.

    Returns how many had to be reset. Cancelled, it resets them as well.
    """
    server.stop_accepting()
    server.end_input()
    idle = asyncio.ensure_future(server.wait_idle())
    hurried = asyncio.ensure_future(hurry.wait())
    try:
        await asyncio.wait((idle, hurried), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hurried.cancel()
        aborted = server.abort()
        try:
            await asyncio.wait((idle,), timeout=1.0)  # A handler may refuse to be cancelled.
        finally:
            idle.cancel()
    return aborted
