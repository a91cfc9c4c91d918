"""A worker as its supervisor sees it: a process, a channel, the connections it was handed."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

from neverblock.servers.channel import Channel
from neverblock.servers.listen import Address, address_text

#: Connections on their way to a worker: more than it takes in a turn would wait for it alone.
UNTAKEN = 64


class Handed:
    """A connection that was accepted for a worker. Its socket is open here until one took it."""

    __slots__ = ("address", "number", "scheme", "sock")

    def __init__(self, number: int, sock: socket.socket, scheme: str, address: Address) -> None:
        self.number = number
        self.sock: socket.socket | None = sock
        self.scheme = scheme
        self.address = address

    @property
    def peer(self) -> str:
        """The client, for people."""
        return address_text(self.address)

    def drain(self) -> None:
        """Nothing: a worker drains as a whole."""

    def abort(self, reason: str) -> None:
        """Drop it, if no worker has it."""
        self.close()

    def close(self) -> None:
        """Leave it to whoever else has it. All that is kept is its number."""
        if self.sock is not None:
            self.sock.close()
            self.sock = self.address = None


class Worker:
    """A process that serves. Its number is its own until it was waited for."""

    def __init__(
        self, slot: int, sock: socket.socket, arrived: Callable[["Worker"], object]
    ) -> None:
        self.slot = slot
        """Which one of those that serve together it is, from 1 on."""
        self.pid = 0
        self.channel = Channel(sock, lambda: arrived(self))
        loop = asyncio.get_running_loop()
        self.since = loop.time()
        self.ready: asyncio.Future[None] = loop.create_future()
        """Whether it can serve, as soon as that is known; why not, as an exception."""
        self.ready.add_done_callback(retrieve)
        self.connections: dict[int, Handed] = {}
        """All that were handed to it and have not ended."""
        self.untaken: dict[int, Handed] = {}
        """Those of them that it has not touched yet, in order."""
        self.turn = 0
        """When it was handed the last one."""
        self.leaving = False
        """Whether it gets no more of them, and ends with the last."""
        self.told = False
        """Whether it knows."""
        self.full = False
        """Whether it had no room for one just now."""
        self.shedding = False
        """Whether its loop is overloaded."""
        self.killed = False
        """Whether its end is no news."""
        self.ended = False

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.pid})"

    @property
    def extra(self) -> dict[str, int]:
        """What a structured log line about it has."""
        return {"worker": self.slot, "worker_pid": self.pid}

    @property
    def serves(self) -> bool:
        """Whether it said that it is ready."""
        return self.ready.done() and not self.ready.cancelled() and not self.ready.exception()

    @property
    def has_room(self) -> bool:
        """Whether a connection can be handed to it."""
        return (
            len(self.untaken) < UNTAKEN
            and not (self.leaving or self.full or self.shedding or self.ended)
            and self.serves
            and not self.channel.congested
        )

    def hand(self, connection: Handed) -> None:
        """Let it serve a connection. Raises OSError where it cannot be told."""
        sock = connection.sock
        assert sock is not None, "somebody else has it"
        family = int(sock.family)
        message = ("serve", connection.number, connection.scheme, family, connection.address)
        self.channel.hand(message, sock.fileno())
        self.connections[connection.number] = self.untaken[connection.number] = connection

    def taken(self, numbers: Iterable[int]) -> None:
        """Leave those connections to it."""
        for number in numbers:
            self.untaken.pop(number).close()

    def drain(self) -> None:
        """Let it end its connections, as after SIGTERM, and then itself; one that has none dies."""
        self.leaving = True
        if not self.serves:
            self.kill()
        elif not self.told:
            self.told = True
            self.channel.send(("drain",))

    def leave(self) -> None:
        """Hand it no more; it goes on with those it has, in no hurry, and then ends."""
        self.leaving = True
        if not self.connections:
            self.drain()

    def kill(self) -> None:
        """End it at once."""
        if not self.ended:
            self.killed = True
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Give up what stood for it. It has ended."""
        self.ended = True
        self.channel.close()


def counted(connections: int) -> str:
    """So many connections, for people."""
    return f"{connections} connection{'' if connections == 1 else 's'}"


def retrieve(future: "asyncio.Future[None]") -> None:
    """Whoever did not ask is not interested."""
    if not future.cancelled():
        future.exception()
