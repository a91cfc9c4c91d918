"""Accepting no more connections than may be served: what is over waits in the kernel.

What the models without a loop share. Accepting and keeping count happen in the running loop's
thread, the main one; how a connection is served is the model's. At the bound nothing is accepted.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from typing import Protocol

from neverblock.servers.blocking import SocketStream, serve_stream
from neverblock.servers.handler import AnyHandler, StreamInfo
from neverblock.servers.listen import Listener, address_text, unix_peer_text

logger = logging.getLogger("neverblock.server")

#: Seconds without accepting after the system had no room for one connection more.
PAUSE = 1.0


class Connection(Hashable, Protocol):
    """A connection that is being served, somewhere."""

    def drain(self) -> None: ...
    def abort(self) -> None: ...


class BoundedServer:
    """Accepts on listeners, up to ``bound`` connections at once. A model adds ``_begin``."""

    backend = ""

    def __init__(
        self, model: str, handler: AnyHandler, listeners: list[Listener], bound: int
    ) -> None:
        self.model = model
        self.handler = handler
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self._bound = bound
        self._listeners = listeners
        self._sockets = deque(
            (sock, listener.bind.scheme) for listener in listeners for sock in listener.sockets
        )
        self._accepting = False
        self._stopped = False
        self._pause: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Accept connections."""
        self._open()

    def stop_accepting(self) -> None:
        """Close the listening sockets and remove those of Unix paths."""
        self._stopped = True
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
        """Drop what is still open; how many connections that was."""
        connections = list(self.connections)
        for connection in connections:
            connection.abort()
        return len(connections)

    def _begin(self, sock: socket.socket, info: StreamInfo) -> Connection:
        """Serve a connection, and report to ``_ended`` afterwards.

        Raises OSError or RuntimeError where the system has no room for it; the caller then closes
        the socket.
        """
        raise NotImplementedError

    def _ended(self, connection: Connection) -> None:
        """A connection is closed and its handler has ended. In the loop's thread."""
        self.connections.discard(connection)
        self._open()
        if not self.connections and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _serve_here(self, stream: SocketStream) -> None:
        """Serve a connection to its end in this thread, which is not the loop's."""
        serve_stream(self.handler, stream)
        with suppress(RuntimeError):  # The loop is closed: it waited long enough.
            self.loop.call_soon_threadsafe(self._ended, stream)

    def _open(self) -> None:
        if self._accepting or self._stopped or self._pause is not None:
            return
        if len(self.connections) >= self._bound:
            return
        self._accepting = True
        self._sockets.rotate(-1)  # No listener is always the first to be looked at.
        for sock, scheme in self._sockets:
            self.loop.add_reader(sock, self._accept, sock, scheme)

    def _shut(self) -> None:
        if self._accepting:
            self._accepting = False
            for sock, _ in self._sockets:
                self.loop.remove_reader(sock)

    def _accept(self, listening: socket.socket, scheme: str) -> None:
        while len(self.connections) < self._bound:
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._hold_back("cannot accept a connection", error)
                return
            try:
                self.connections.add(self._begin(sock, self._prepare(sock, scheme, address)))
            except (OSError, RuntimeError) as error:
                sock.close()
                self._hold_back("cannot serve a connection, closing it", error)
                return
        self._shut()

    def _prepare(self, sock: socket.socket, scheme: str, address: object) -> StreamInfo:
        sock.setblocking(True)
        if scheme == "unix":
            # The kernel tells who it is only as long as the socket is open.
            peer = unix_peer_text(sock)
        else:
            peer = address_text(address)  # type: ignore[arg-type]
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return StreamInfo(scheme, peer, address_text(sock.getsockname()), self.model, self.backend)

    def _hold_back(self, what: str, error: Exception) -> None:
        logger.error("%s: %s; accepting again in %g s", what, error, PAUSE)
        self._shut()
        self._pause = self.loop.call_later(PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._open()
