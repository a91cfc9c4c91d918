"""The loop model with workers: processes that run a loop each, and a supervisor that accepts.

Who accepts: the supervisor, up to the bound of all together; it hands each connection to the
worker that has the fewest. Who reads and waits: that worker's loop. What no worker took is still
the supervisor's, so that a worker's end loses those connections alone that it had begun to serve.
"""

import asyncio
import logging
import signal
import socket
from collections import deque
from dataclasses import replace
from itertools import count

from neverblock import Loop
from neverblock.errors import HandlerError, SettingsError
from neverblock.servers.bounded import BoundedServer
from neverblock.servers.crew import Crew, report_end
from neverblock.servers.forking import Watch, fork
from neverblock.servers.handler import AnyHandler, Stream
from neverblock.servers.listen import Address, Listener
from neverblock.servers.process import warn_of_threads
from neverblock.servers.settings import Settings
from neverblock.servers.supervised import Handed, Worker, counted
from neverblock.servers.worker import LoopFactory, work

logger = logging.getLogger("neverblock.server")

#: Seconds without a connection for a worker that had no room for one.
PAUSE = 1.0

#: Seconds from an abort until what has not ended is killed.
GRACE = 0.5


class Supervisor(BoundedServer):
    """Accepts on listeners, hands connections to workers, and keeps the workers going.

    ``target`` is the handler, or its name, which each worker then imports itself.
    """

    def __init__(
        self, target: AnyHandler | str, listeners: list[Listener], settings: Settings
    ) -> None:
        # Its time runs in the worker.
        super().__init__(not_here, listeners, replace(settings, handler_timeout=None))
        self.backend = str(getattr(self.loop, "backend", type(self.loop).__name__))
        self._target = target
        self._given = replace(settings, workers=0, max_connections=None)
        self._crew = Crew(settings.workers, self._fork, self._distribute)
        self._watch = Watch(self._died)
        self._waiting: deque[Handed] = deque()
        self._numbers = count()
        self._turns = count(1)

    async def start(self) -> None:
        """Start the workers, then accept. Raises what keeps them from serving."""
        warn_of_threads("start threads in the handler")
        self.loop.add_signal_handler(signal.SIGHUP, self._crew.reload)
        try:
            await self._crew.start()
        except BaseException:
            await self.wait_idle()
            raise
        await super().start()

    def end_input(self) -> None:
        self._crew.dismiss()
        self._drop_waiting()
        for worker in self._watch.alive:
            worker.drain()

    async def wait_idle(self) -> None:
        """Return when no connection is open and no worker is left."""
        while self.connections or self._watch.alive:
            self._idle = self.loop.create_future()
            await self._idle
        self.loop.remove_signal_handler(signal.SIGHUP)

    def abort(self) -> int:
        self._crew.dismiss()
        self._drop_waiting()
        for worker in self._watch.alive:
            worker.channel.send(("abort",))
            self.loop.call_later(GRACE, worker.kill)
        return len(self.connections)

    # Connections

    def _full(self) -> bool:
        return super()._full() or bool(self._waiting) or self._choose() is None

    def _begin(self, sock: socket.socket, scheme: str, address: Address) -> Handed:
        connection = Handed(next(self._numbers), sock, scheme, address)
        if not self._hand(connection):
            self._waiting.append(connection)
        return connection

    def _hand(self, connection: Handed) -> bool:
        while (worker := self._choose()) is not None:
            try:
                worker.hand(connection)
            except (BrokenPipeError, ConnectionResetError):
                worker.full = True  # It has ended, which is told in a moment.
            except OSError as error:
                self._pass_over(worker, str(error))
            else:
                worker.turn = next(self._turns)
                return True
        return False

    def _choose(self) -> Worker | None:
        """The worker with the fewest connections; of several, the one that waited longest."""
        return min(
            (worker for worker in self._crew.serving if worker.has_room),
            key=lambda worker: (len(worker.connections), worker.turn),
            default=None,
        )

    def _pass_over(self, worker: Worker, why: str) -> None:
        logger.warning(
            "%s has no room, no connection goes to it for %g s: %s",
            worker,
            PAUSE,
            why,
            extra=worker.extra,
        )
        worker.full = True
        self.loop.call_later(PAUSE, self._come_back, worker)

    def _come_back(self, worker: Worker) -> None:
        worker.full = False
        self._distribute()

    def _distribute(self) -> None:
        """Hand over what waits, then accept more."""
        while self._waiting and self._hand(self._waiting[0]):
            self._waiting.popleft()
        self._open()

    def _drop_waiting(self) -> None:
        # As if it had stayed in the listen queue.
        while self._waiting:
            connection = self._waiting.popleft()
            connection.close()
            self._ended(connection)

    # What workers say

    def _heed(self, worker: Worker) -> bool:
        messages = worker.channel.receive()
        for message, _ in messages:
            match message:
                case ("report", taken, ended, refused):
                    worker.taken(taken)
                    self._refused(worker, refused)
                    for number in ended:
                        self._ended(worker.connections.pop(number))
                    if worker.leaving:
                        worker.leave()
                case ("ready",) if not worker.ready.done():
                    worker.ready.set_result(None)
                    logger.info("%s is ready", worker, extra=worker.extra)
                case ("failed", setting, reason) if not worker.ready.done():
                    worker.ready.set_exception(
                        SettingsError(setting, reason) if setting else HandlerError(reason)
                    )
                case ("shed", overloaded):
                    worker.shedding = overloaded
                case ("leaving",):
                    self._let_go(worker)
        self._distribute()
        return bool(messages)

    def _refused(self, worker: Worker, numbers: list[int]) -> None:
        for number in numbers:
            self._waiting.append(worker.untaken.pop(number))
            del worker.connections[number]
        if numbers and not worker.full:
            self._pass_over(worker, "too many open files")

    def _let_go(self, worker: Worker) -> None:
        """Somebody sent SIGTERM to it alone."""
        if self._stopped:
            return
        if worker.told:
            self._cut_off(worker)
            return
        then = self._crew.left(worker)
        logger.info("%s got SIGTERM: draining it%s", worker, then, extra=worker.extra)
        worker.drain()
        self.loop.call_later(self.settings.drain_timeout, self._cut_off, worker)

    def _cut_off(self, worker: Worker) -> None:
        if not worker.ended:
            reset = counted(len(worker.connections))
            logger.warning("%s ends: %s reset", worker, reset, extra=worker.extra)
            worker.channel.send(("abort",))
            self.loop.call_later(GRACE, worker.kill)

    def _died(self, worker: Worker, status: int) -> None:
        while self._heed(worker):  # What it still said.
            pass
        worker.close()
        self._waiting.extend(worker.untaken.values())
        lost = [each for number, each in worker.connections.items() if number not in worker.untaken]
        for connection in lost:
            self._ended(connection)
        if self._stopped:
            self._drop_waiting()
        report_end(worker, status, len(lost), self._crew.left(worker))
        self._distribute()
        idle = not self.connections and not self._watch.alive
        if idle and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _fork(self, slot: int) -> Worker:
        worker = fork(slot, self._work, self._heed)
        self._watch.add(worker)
        return worker

    def _work(self, sock: socket.socket, mask: set[int | signal.Signals]) -> int:
        """In the worker, whose copy of this must not keep anything open."""
        for listener in self._listeners:
            for listening in listener.sockets:
                listening.close()  # Not the listener: a Unix path stays the supervisor's.
        untaken = [each for worker in self._watch.alive for each in worker.untaken.values()]
        for connection in (*untaken, *self._waiting):
            connection.close()
        self._watch.disown()
        return work(self._target, self._given, sock, like(self.loop, self.settings), mask)


async def not_here(stream: Stream) -> None:
    """The supervisor's handler: it serves nobody."""


def like(loop: asyncio.AbstractEventLoop, settings: Settings) -> LoopFactory:
    """Makes loops of the same kind, watched as the settings say."""

    def new_event_loop() -> asyncio.AbstractEventLoop:
        if isinstance(loop, Loop):
            new: asyncio.AbstractEventLoop = Loop(loop.backend, watch=settings.watch)
        else:
            new = type(loop)()
        new.set_debug(loop.get_debug())
        return new

    return new_event_loop
