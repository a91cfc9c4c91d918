"""The loop model: one thread, every connection a task, the event loop waits for all of them.

Everything here runs in the loop's thread. A connection belongs to its transport; the stream, its
task and the server refer to it until the transport says that it is lost *and* the handler ended.
"""

import asyncio
import logging
import socket
from typing import cast

from neverblock.errors import StreamBusyError
from neverblock.servers.bounded import BoundedServer
from neverblock.servers.handler import (
    HIGH_WATER,
    AnyHandler,
    Handler,
    Stream,
    StreamInfo,
    is_async,
    report_failure,
    takes_reader_and_writer,
)
from neverblock.servers.idle import IdleTimer
from neverblock.servers.listen import Address, Listener, address_text, peer_text, set_accepted
from neverblock.servers.offload import offloaded
from neverblock.servers.plain import PlainHandler
from neverblock.servers.reader_writer import ReaderWriterConnection
from neverblock.servers.settings import Settings
from neverblock.servers.sockets import reset
from neverblock.servers.threads import Threads
from neverblock.servers.tls.transport import TlsTransport

logger = logging.getLogger("neverblock.server")


class LoopStream(Stream, asyncio.Protocol):
    """A stream over a transport of any asyncio loop."""

    __slots__ = (
        "_address",
        "_choked",
        "_closers",
        "_gone",
        "_idle",
        "_peer",
        "_scheme",
        "_sendable",
        "_senders",
        "_server",
        "_task",
        "_transport",
        "_waiter",
        "_wanted",
    )

    _transport: asyncio.Transport

    def __init__(self, server: "LoopServer", scheme: str, address: Address) -> None:
        super().__init__()
        self._server = server
        self._scheme = scheme
        self._address = address
        self._peer = ""
        self._task: asyncio.Task[None] | None = None
        self._idle: IdleTimer | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._wanted = 0
        self._choked = False
        self._sendable = True
        self._gone = False
        self._senders: list[asyncio.Future[None]] | None = None
        self._closers: list[asyncio.Future[None]] | None = None

    # What the handler calls

    @property
    def peer(self) -> str:
        if not self._peer:
            self._peer = address_text(self._address)
        return self._peer

    @property
    def info(self) -> StreamInfo:
        return StreamInfo(
            scheme=self._scheme,
            peer=self.peer,
            local=address_text(self._transport.get_extra_info("sockname")),
            model=self._server.model,
            backend=self._server.backend,
            tls=self._transport.get_extra_info("tls"),
        )

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        while self._choked:
            await self._unchoked()
        if not self._sendable:
            raise self._refusal()
        if self._transport.is_closing():
            # It broke while it was written to, and says so in a turn to come: a handler that only
            # sends would otherwise never let that turn begin.
            await self._until_gone()
            raise self._refusal()
        if self._idle is None:
            self._transport.write(data)
        else:
            self._idle.send(self._transport.write, data)

    async def send_eof(self) -> None:
        while self._choked:
            await self._unchoked()
        if self._closed or self._gone:
            raise self._refusal()
        if self._sendable:
            self._sendable = False
            self._transport.write_eof()

    async def aclose(self) -> None:
        self._close()
        try:
            await self._until_gone()
        except asyncio.CancelledError:
            self._transport.abort()
            raise

    async def _until_gone(self) -> None:
        while not self._gone:
            waiter = self._server.loop.create_future()
            self._closers = [*(self._closers or ()), waiter]
            await waiter

    def _unchoked(self) -> "asyncio.Future[None]":
        waiter = self._server.loop.create_future()
        if self._senders is None:
            self._senders = []
            if self._idle is not None:
                self._idle.touch()
        self._senders.append(waiter)
        return waiter

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._sendable = False
            self._transport.close()
            if self._idle is not None:
                self._idle.touch()
            self._wake()

    # What the buffer asks for

    def _fill(self, wanted: int) -> "asyncio.Future[None]":
        if self._waiter is not None and not self._waiter.done():
            raise StreamBusyError(f"another task receives from {self.peer}; receive in one task")
        if self._paused:
            self._resume()
        if self._idle is not None:
            self._idle.touch()
        self._wanted = wanted
        self._waiter = waiter = self._server.loop.create_future()
        return waiter

    def _resume(self) -> None:
        self._paused = False
        self._transport.resume_reading()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asked what it is: the transports of other loops need not be asyncio's.
        self._transport = transport = cast("asyncio.Transport", transport)
        if self._scheme == "unix":
            # The kernel tells who it is only as long as the socket is open.
            self._peer = peer_text(transport.get_extra_info("socket"), self._scheme, self._address)
        if not self._server.settings.nodelay:  # The loop has turned it on.
            set_accepted(transport.get_extra_info("socket"), self._server.settings)
        if self._lost is not None:  # Aborted before it began.
            self.abort(self._lost)
        elif self._server.tls is None:
            self.begin()
        elif self._draining:
            self._close()

    def begin(self) -> None:
        """The connection is ready for its handler: its TLS handshake, if any, is done."""
        if self._server.settings.idle_timeout is not None:
            self._idle = IdleTimer(self._server.loop, self._server.settings.idle_timeout, self)
        self._server.begun(self)
        self._task = self._server.loop.create_task(self._server.handle(self))
        self._task.add_done_callback(self._ended)

    def data_received(self, data: bytes) -> None:
        if self._held:
            self._hold(data)
        else:
            self._held = data
        waiter = self._waiter
        size = len(self._held) - self._at
        if waiter is None or waiter.done():
            if size > HIGH_WATER:
                self._pause()
        elif size >= self._wanted:
            self._waiter = None
            waiter.set_result(None)
            if self._draining:
                self._pause()
        elif self._idle is not None:
            self._idle.touch()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        return True  # The sending half stays open.

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        if self._idle is not None:
            self._idle.cancel()
        if self._lost is None and (exc is not None or not (self._eof or self._closed)):
            self._lost = str(exc or "aborted")
        self._sendable = False
        self._wake()
        self.resume_writing()
        release(self._closers)
        self._closers = None
        self._server.check(self)

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        release(self._senders)
        self._senders = None

    # What the server calls

    @property
    def over(self) -> bool:
        """Whether the connection is gone and its handler has ended."""
        return self._gone and self._task is None

    def drain(self) -> None:
        """End the input before the next message, as described in Stream."""
        self._draining = True
        if self._closed or self._gone:
            return
        if self._task is None:
            if hasattr(self, "_transport"):
                self._close()  # Its handshake is not done.
        elif self._waiter is None or self._waiter.done() or not self._held:
            self._pause()
            self._wake()

    def abort(self, reason: str) -> None:
        """Reset the connection, cancel the handler."""
        if self._lost is None and not self._closed:
            self._lost = reason
        if hasattr(self, "_transport"):
            reset(self._transport)
        if self._task is not None:
            self._task.cancel()

    def refuse(self) -> None:
        """It could not begin: there is no transport."""
        self._gone = True
        self._server.check(self)

    @property
    def waits_for_peer(self) -> bool:
        """Whether the handler receives or sends, or the end waits for what is unsent."""
        return self._closed or self._choked or self._waiter is not None

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not yet taken."""
        return self._transport.get_write_buffer_size()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            report_failure(self.peer, error, self._gone or self._lost is not None)
        self._close()
        self._server.check(self)


class LoopServer(BoundedServer):
    """Accepts on listeners and runs a handler for each connection, in the running loop."""

    def __init__(self, handler: AnyHandler, listeners: list[Listener], settings: Settings) -> None:
        super().__init__(handler, listeners, settings)
        self.backend = str(getattr(self.loop, "backend", type(self.loop).__name__))
        self._connection: type[LoopStream] | type[ReaderWriterConnection] = (
            ReaderWriterConnection if takes_reader_and_writer(handler) else LoopStream
        )
        self._threads: Threads | None = None
        if settings.offload and not is_async(handler):
            self._threads = Threads(settings.pool_size, "offload", settings.stack_size)
            self.handle = offloaded(
                cast("PlainHandler", handler),
                self._threads,
                lambda stream: self._handling_elsewhere(cast("LoopStream", stream)),
            )
        else:
            self.handle = cast("Handler", handler)
        self._attaching: set[asyncio.Task[None]] = set()
        self._refusing = False

    async def start(self) -> None:
        """Accept connections."""
        if self._threads is not None:
            self._threads.start()
        await super().start()

    def abort(self) -> int:
        aborted = super().abort()
        if self._threads is not None:
            self._threads.end()
        return aborted

    def begun(self, connection: LoopStream | ReaderWriterConnection) -> None:
        """Its handler begins; one that is offloaded does so when a thread is free for it."""
        if self._threads is None:
            self.handling(connection)

    def check(self, connection: LoopStream | ReaderWriterConnection) -> None:
        """Forget the connection if it is over."""
        if connection.over:
            self._ended(connection)

    def _begin(
        self, sock: socket.socket, scheme: str, address: Address
    ) -> LoopStream | ReaderWriterConnection:
        sock.setblocking(False)
        connection = self._connection(self, scheme, address)
        attaching = self.loop.create_task(self._attach(connection, sock))
        self._attaching.add(attaching)
        attaching.add_done_callback(self._attaching.discard)
        return connection

    async def _attach(
        self, connection: LoopStream | ReaderWriterConnection, sock: socket.socket
    ) -> None:
        def protocol() -> asyncio.Protocol:
            return self._protocol(connection)

        try:
            try:
                await self.loop.connect_accepted_socket(protocol, sock)
            except NotImplementedError:  # Some loops have the other way alone.
                await self.loop.create_connection(protocol, sock=sock)
        except Exception as error:
            # One that the multiplexer has no room for, say: the others go on.
            sock.close()
            if not self._refusing:  # A crowd at the door would flood the log.
                self._refusing = True
                logger.error(
                    "cannot serve a connection, closing it: %s",
                    str(error) or repr(error),
                    extra={"model": "loop"},
                )
            connection.refuse()
        else:
            self._refusing = False

    def _protocol(self, connection: LoopStream | ReaderWriterConnection) -> asyncio.Protocol:
        """What the raw transport of a connection calls."""
        return connection if self.tls is None else TlsTransport(self.loop, self.tls, connection)


def release(waiters: "list[asyncio.Future[None]] | None") -> None:
    for waiter in waiters or ():
        if not waiter.done():
            waiter.set_result(None)
