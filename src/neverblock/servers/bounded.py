"""Accepting no more connections than may be served: what is over waits in the kernel.

What every model shares. Accepting and keeping count happen in the running loop's thread, the main
one; how a connection is served is the model's. At the bound nothing is accepted.
"""

import asyncio
import errno
import logging
import socket
import sys
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from typing import Protocol

from neverblock.servers.handler import AnyHandler, StreamInfo
from neverblock.servers.listen import Address, Listener, address_text, peer_text, set_accepted
from neverblock.servers.settings import Settings
from neverblock.servers.shed import Shedding
from neverblock.servers.tls.context import context_of

logger = logging.getLogger("neverblock.server")

#: Seconds without accepting after the system had no room for one connection more.
PAUSE = 1.0

#: What a connection that broke while it waited makes accept(2) fail with; the next may be well.
BROKEN = {
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "ENETDOWN", "EPROTO", "ENOPROTOOPT", "EHOSTDOWN", "ENONET"),
        *("EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH"),
    )
    if hasattr(errno, name)
}

#: Connections accepted before the loop turns to its other sources again.
AT_ONCE = 64


class Connection(Hashable, Protocol):
    """A connection that is being served, somewhere."""

    @property
    def peer(self) -> str: ...
    def drain(self) -> None: ...
    def abort(self, reason: str) -> None: ...


class BoundedServer:
    """Accepts on listeners, up to a bound of connections at once. A model adds ``_begin``."""

    backend = ""

    def __init__(self, handler: AnyHandler, listeners: list[Listener], settings: Settings) -> None:
        self.handler = handler
        self.settings = settings
        self.model = settings.model
        self.tls = context_of(settings)
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self._bound = settings.bound or sys.maxsize
        self._listeners = listeners
        self._sockets = deque(
            (sock, listener.bind.scheme) for listener in listeners for sock in listener.sockets
        )
        self._accepting = False
        self._stopped = False
        self._pause: asyncio.TimerHandle | None = None
        self._troubled = False
        self._deadlines: dict[Connection, asyncio.TimerHandle] = {}
        self._idle: asyncio.Future[None] | None = None
        self._shedding = Shedding(self.loop, self.model, self._shed)

    async def start(self) -> None:
        """Accept connections."""
        self._shedding.start()
        self._open()

    def stop_accepting(self) -> None:
        """Close the listening sockets and remove those of Unix paths."""
        self._stopped = True
        self._shedding.stop()
        self._shut()
        if self._pause is not None:
            self._pause.cancel()
        for listener in self._listeners:
            listener.close()

    def end_input(self) -> None:
        """Ask every handler to come to its end: see Stream."""
        for connection in list(self.connections):
            connection.drain()

    async def wait_idle(self) -> None:
        """Return when no connection is open and no handler runs."""
        while self.connections:
            self._idle = self.loop.create_future()
            await self._idle

    def abort(self) -> int:
        """Reset what is still open; how many connections that was."""
        connections = list(self.connections)
        for connection in connections:
            connection.abort("the server stops")
        return len(connections)

    def _begin(self, sock: socket.socket, scheme: str, address: Address) -> Connection:
        """Serve a connection, and report to ``_ended`` afterwards. Never blocks.

        Raises OSError or RuntimeError where the system has no room for it; the caller then closes
        the socket.
        """
        raise NotImplementedError

    def _ended(self, connection: Connection) -> None:
        """A connection is closed and its handler has ended. In the loop's thread."""
        self.connections.discard(connection)
        deadline = self._deadlines.pop(connection, None)
        if deadline is not None:
            deadline.cancel()
        if not self._accepting:
            self._open()
        if not self.connections and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _ended_elsewhere(self, connection: Connection) -> None:
        """The same, told by another thread."""
        with suppress(RuntimeError):  # The loop is closed: it waited long enough.
            self.loop.call_soon_threadsafe(self._ended, connection)

    def _full(self) -> bool:
        """Whether no connection more can be served just now."""
        return len(self.connections) >= self._bound

    def _open(self) -> None:
        if self._accepting or self._stopped or self._pause is not None or self._full():
            return
        if self._shedding.on:
            return
        self._accepting = True
        self._sockets.rotate(-1)  # No listener is always the first to be looked at.
        for sock, scheme in self._sockets:
            self.loop.add_reader(sock.fileno(), self._accept, sock, scheme)

    def _shed(self) -> None:
        """The loop is overloaded, or has recovered."""
        if self._shedding.on:
            self._shut()
        else:
            self._open()

    def _shut(self) -> None:
        if self._accepting:
            self._accepting = False
            for sock, _ in self._sockets:
                self.loop.remove_reader(sock.fileno())

    def _accept(self, listening: socket.socket, scheme: str) -> None:
        for _ in range(AT_ONCE):
            if self._full():
                self._shut()
                return
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in BROKEN:
                    continue
                self._hold_back("cannot accept a connection", error)
                return
            set_accepted(sock, self.settings)
            try:
                connection = self._begin(sock, scheme, address)
            except (OSError, RuntimeError) as error:
                sock.close()
                self._hold_back("cannot serve a connection, closing it", error)
                return
            self._troubled = False
            self._began(connection)

    def _began(self, connection: Connection) -> None:
        self.connections.add(connection)

    def handling(self, connection: Connection) -> None:
        """The handler of a connection begins, and its time with it. In the loop's thread."""
        if self.settings.handler_timeout is not None and connection in self.connections:
            self._deadlines[connection] = self.loop.call_later(
                self.settings.handler_timeout, self._overdue, connection
            )

    def _handling_elsewhere(self, connection: Connection) -> None:
        """The same, told by another thread."""
        if self.settings.handler_timeout is not None:
            with suppress(RuntimeError):  # The loop is closed: it waited long enough.
                self.loop.call_soon_threadsafe(self.handling, connection)

    def _overdue(self, connection: Connection) -> None:
        del self._deadlines[connection]
        reason = f"its handler takes longer than {self.settings.handler_timeout:g} s"
        peer = connection.peer
        logger.warning("closing %s: %s", peer, reason, extra={"peer": peer})
        connection.abort(reason)

    def _hold_back(self, what: str, error: Exception) -> None:
        # Told once, until accepting goes well again: a shortage may last.
        if not self._troubled:
            self._troubled = True
            logger.error(
                "%s: %s; trying again every %g s", what, error, PAUSE, extra={"model": self.model}
            )
        self._shut()
        self._pause = self.loop.call_later(PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._open()


def described(sock: socket.socket, scheme: str, address: Address, model: str) -> StreamInfo:
    """What is known of a connection that was accepted from ``address``."""
    return StreamInfo(
        scheme, peer_text(sock, scheme, address), address_text(sock.getsockname()), model, ""
    )
