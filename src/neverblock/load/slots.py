"""The connections of a process: each has a slot, which opens another when one is lost.

- All in the loop's thread. A slot has one client at most, and opens no other while that is alive.
  Whoever asks it to open another, while that is already to come, has asked for the same one.
- Nothing is opened once `closing` is set; what is open then is let go by `close()`.
- A server that takes nothing is not asked all the time: a slot whose connection brought no answer
  waits before it opens the next, up to a second.
"""

import asyncio
import socket
import ssl
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from neverblock.load.client import Client, Meter
from neverblock.load.connecting import Place, connect, sources
from neverblock.load.kinds import BACKLOG, CONNECT_TIMEOUT, kind_of
from neverblock.load.login import Login
from neverblock.load.plan import Plan
from neverblock.load.protocols import Maker
from neverblock.load.recorder import Recorder, nanoseconds
from neverblock.load.target import Target

#: Connections that are being opened at once.
AT_ONCE = 128
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0

#: A server that keeps one connection waiting for so long keeps all others waiting, too.
HOPELESS = (CONNECT_TIMEOUT, BACKLOG)


@dataclass
class Route:
    """How to get to the server."""

    places: list[Place]
    context: ssl.SSLContext | None
    host: str
    sources: list[str | None]
    timeout: float
    target: Target

    @classmethod
    def of(
        cls, plan: Plan, places: list[Place], context: ssl.SSLContext | None, first_source: int
    ) -> "Route":
        found = sources(places[0], plan.connections + plan.idle, first_source)
        return cls(places, context, plan.parsed.host, found, plan.timeout, plan.parsed)

    async def open(self, protocol: asyncio.BaseProtocol, number: int) -> asyncio.Transport:
        """A connection for that protocol. Raises OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        source = self.sources[number % len(self.sources)]
        sock = await self.connected(source)
        secure = self.context is not None
        try:
            async with asyncio.timeout(self.timeout):
                transport, _ = await loop.create_connection(
                    lambda: protocol,
                    sock=sock,
                    ssl=self.context,
                    server_hostname=self.host if secure else None,
                    # Longer than ours, which names what happened.
                    ssl_handshake_timeout=self.timeout * 2 if secure else None,
                )
        except BaseException:
            sock.close()
            raise
        return transport

    async def enter(self, protocol: asyncio.BaseProtocol, number: int) -> asyncio.Transport:
        """The same, once the server has let it in where it wants a password."""
        if self.target.password is None:
            return await self.open(protocol, number)
        login = Login()
        transport = await self.open(login, number)
        try:
            async with asyncio.timeout(self.timeout):
                await login.enter(transport, self.target)
        except BaseException:
            transport.abort()
            raise
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        return transport

    async def connected(self, source: str | None) -> socket.socket:
        """A socket that is connected to the first place that can be had."""
        for place in list(self.places):
            try:
                sock = await connect(place, source, self.timeout)
            except (OSError, TimeoutError) as error:
                failure = error
                continue
            if place is not self.places[0]:
                self.places.remove(place)
                self.places.insert(0, place)
            return sock
        raise failure


class Slot:
    """One connection, and the next when it is lost."""

    def __init__(self, slots: "Slots", number: int) -> None:
        self.slots = slots
        self.number = number
        self.client: Client | None = None
        self.pause = FIRST_PAUSE
        self.reopening = False
        """Whether another is to be opened, or being opened."""

    async def open(self) -> bool:
        """Open it; whether that went well. What went wrong is counted."""
        slots = self.slots
        client = slots.maker(slots.meter, self)
        began = nanoseconds()
        try:
            await slots.route.enter(client, self.number)
        except (OSError, TimeoutError) as error:
            kind = kind_of(error)
            slots.meter.fail(kind, str(error))
            if kind in HOPELESS:
                slots.hopeless.set()
            return False
        except BaseException:
            client.let_go()
            raise
        slots.connect.add(nanoseconds() - began)
        if slots.closing:
            client.let_go()
            return False
        if client.alive:
            self.client = client
            slots.alive += 1
            if slots.meter.started:
                client.go()
        return True

    def lost(self, client: Client) -> None:
        """The client's connection is over."""
        if self.client is not client:  # Lost before it was ours.
            return
        self.client = None
        self.slots.alive -= 1
        if client.answers:
            self.pause = 0.0
        self.again()

    def again(self) -> None:
        """Open another, soon, if there is none and none is to come."""
        if not (self.slots.closing or self.reopening or self.client is not None):
            self.reopening = True
            self.slots.spawn(self.reopen())

    async def reopen(self) -> None:
        try:
            await asyncio.sleep(self.pause)
            self.pause = min(max(2 * self.pause, FIRST_PAUSE), LONGEST_PAUSE)
            async with self.slots.openers:
                if self.slots.closing:
                    return
                await self.open()
        finally:
            self.reopening = False
        self.again()


@dataclass
class Slots:
    """All connections that ask."""

    route: Route
    maker: Maker
    meter: Meter
    numbers: range
    closing: bool = False
    alive: int = 0
    connect: Recorder = field(default_factory=Recorder)
    hopeless: asyncio.Event = field(default_factory=asyncio.Event)
    openers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.all = [Slot(self, number) for number in self.numbers]

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside the rest."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def open(self) -> None:
        """Open all of them, as fast as the server takes them."""
        left = iter(self.all)
        tried = 0

        async def opener() -> None:
            nonlocal tried
            for slot in left:
                tried += 1
                if not await slot.open():
                    failed.append(slot)

        failed: list[Slot] = []
        if not await until(self.hopeless, [opener() for _ in range(min(AT_ONCE, len(self.all)))]):
            done = sum(slot.client is not None for slot in self.all) + len(failed)
            self.meter.fail(CONNECT_TIMEOUT, "", max(0, len(self.all) - done))
        self.failed = failed

    def go(self) -> None:
        """Let all that are open ask; open those that could not be, again and again."""
        for slot in self.all:
            if slot.client is not None:
                slot.client.go()
            else:
                slot.again()

    def spread(self, seconds: float) -> None:
        """Open those that are not open evenly within that time."""
        loop = asyncio.get_running_loop()
        for slot in self.all:
            if slot.client is None:
                delay = seconds * slot.number / (self.numbers.stop or 1)
                slot.pause = 0.0
                loop.call_later(delay, slot.again)
            else:
                slot.client.go()

    def look(self, now: int, patience: int) -> None:
        """End those that have waited too long for an answer."""
        for client in self.clients():
            client.look(now, patience)

    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return any(client.in_flight for client in self.clients())

    def clients(self) -> list[Client]:
        return [slot.client for slot in self.all if slot.client is not None]

    def close(self, count: bool) -> None:
        """End all; what is in flight counts as not answered in time, or not at all."""
        self.closing = True
        for client in self.clients():
            if count:
                client.give_up()
            else:
                client.let_go()
        for task in list(self.tasks):
            task.cancel()


async def until(stop: asyncio.Event, works: Iterable[Coroutine[Any, Any, None]]) -> bool:
    """Do all of it, unless `stop` is set before; whether it was all done."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[Any]] = {loop.create_task(work) for work in works}
    stopping: asyncio.Task[Any] = loop.create_task(stop.wait())
    left = {*tasks, stopping}
    try:
        while not (left.isdisjoint(tasks) or stop.is_set()):
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return left.isdisjoint(tasks)
    finally:
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
