"""Keeping workers going: as many as asked for, one in the place of each that ends, all on SIGHUP.

Those that serve together are a generation, each in a slot. A reload raises the next generation;
only when all of it is ready it takes the slots, and those before it leave with their last
connections. What a worker's end means for its connections is the supervisor's business.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from neverblock.errors import HandlerError, SettingsError
from neverblock.servers.process import ending
from neverblock.servers.supervised import Worker, counted

logger = logging.getLogger("neverblock.server")

#: Seconds until a worker is replaced: at first none, then these, then twice as many each time.
FIRST_DELAY = 0.5
LAST_DELAY = 30.0

#: Seconds after which a worker that ends is taken for one that worked.
LONG = 30.0


class Slot:
    """The place of a worker in the generation that serves."""

    def __init__(self, number: int, worker: Worker) -> None:
        self.number = number
        self.worker: Worker | None = worker
        self.timer: asyncio.TimerHandle | None = None
        self._failures = 0

    def empty(self, lived: float) -> float:
        """Take the worker out, which lived so long; seconds to wait before another comes in."""
        self.worker = None
        if lived >= LONG:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return 0.0
        return min(FIRST_DELAY * float(1 << min(self._failures - 2, 16)), LAST_DELAY)

    def give_up(self) -> None:
        """Let it be empty, if it is."""
        if self.timer is not None:
            self.timer.cancel()


class Crew:
    """The workers that serve, and those that are to.

    ``fork`` starts one, or raises OSError. ``renewed`` is called when others serve after a reload.
    """

    def __init__(
        self, size: int, fork: Callable[[int], Worker], renewed: Callable[[], None]
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._size = size
        self._fork = fork
        self._renewed = renewed
        self._slots: list[Slot] = []
        self._raising: asyncio.Task[None] | None = None
        self._reload_again = False
        self._dismissed = False

    @property
    def serving(self) -> list[Worker]:
        """Those that connections may go to."""
        return [slot.worker for slot in self._slots if slot.worker is not None]

    async def start(self) -> None:
        """Return when all are ready. Raises what keeps them from it; none is left then."""
        self._take_over(await self._raise())
        if self._reload_again:
            self.reload()

    def reload(self) -> None:
        """Begin the next generation. One that is not ready yet is given up: it may be outdated."""
        if self._dismissed:
            return
        if not self._slots:
            self._reload_again = True
            return
        if self._raising is not None:
            self._raising.cancel()
        logger.info("SIGHUP: reloading the handler")
        self._raising = self.loop.create_task(self._reload())

    def dismiss(self) -> None:
        """Start no worker any more."""
        self._dismissed = True
        if self._raising is not None:
            self._raising.cancel()
        for slot in self._slots:
            slot.give_up()

    def left(self, worker: Worker) -> str:
        """One ends, or will. If another is to come: when, for the log; else nothing."""
        for slot in self._slots:
            if slot.worker is worker and not self._dismissed:
                return f"; another starts {self._fill_later(slot, worker.since)}"
        return ""

    def _fill_later(self, slot: Slot, since: float) -> str:
        delay = slot.empty(self.loop.time() - since)
        slot.timer = self.loop.call_later(delay, self._fill, slot)
        return f"in {delay:g} s" if delay else "at once"

    def _fill(self, slot: Slot) -> None:
        try:
            slot.worker = self._fork(slot.number)
        except OSError as error:
            when = self._fill_later(slot, self.loop.time())
            logger.error("cannot start worker %d: %s; trying again %s", slot.number, error, when)

    async def _reload(self) -> None:
        try:
            workers = await self._raise()
        except (ValueError, OSError) as error:
            logger.error("cannot reload, those before go on: %s", error)
            return
        self._take_over(workers)
        logger.info(
            "reloaded: new connections go to %d new workers",
            self._size,
        )
        self._renewed()

    def _take_over(self, workers: list[Worker]) -> None:
        before = self._slots
        self._slots = [Slot(number, worker) for number, worker in enumerate(workers, 1)]
        for slot in before:
            slot.give_up()
            if slot.worker is not None:
                slot.worker.leave()
        for slot in self._slots:
            if slot.worker is not None and slot.worker.ended:  # While others were not ready.
                self._fill_later(slot, self.loop.time())

    async def _raise(self) -> list[Worker]:
        workers: list[Worker] = []
        forked: asyncio.Future[None] = self.loop.create_future()
        # Not in this task: a child would find itself within it.
        self.loop.call_soon(self._fork_all, workers, forked)
        try:
            await forked
            await asyncio.gather(*(worker.ready for worker in workers))
        except BaseException:
            forked.cancel()
            for worker in workers:
                worker.kill()
            raise
        return workers

    def _fork_all(self, workers: list[Worker], forked: "asyncio.Future[None]") -> None:
        try:
            while len(workers) < self._size and not forked.done():
                workers.append(self._fork(len(workers) + 1))
        except OSError as error:
            forked.set_exception(
                SettingsError("workers", f"cannot start number {len(workers) + 1}: {error}")
            )
        else:
            if not forked.done():
                forked.set_result(None)


def report_end(worker: Worker, status: int, lost: int, then: str) -> None:
    """Settle whether it was ready, and log how it ended, unless that is no news.

    ``status`` is that of wait(2). ``lost`` connections ended with it.
    """
    how = ending(status)
    if not worker.ready.done():
        worker.ready.set_exception(HandlerError(f"{worker} {how} before it was ready"))
    if worker.killed:
        return
    if not worker.serves:
        if not then:
            return  # Who waits for its generation tells.
        how = f"cannot serve: {worker.ready.exception()}"
    if then or (status and not (worker.told and os.WTERMSIG(status) == signal.SIGTERM)):
        with_them = f", with {counted(lost)}" if lost else ""
        logger.error("%s %s%s%s", worker, how, with_them, then, extra=worker.extra)
    else:
        logger.info("%s ended", worker, extra=worker.extra)
