"""The loop model: one thread, every connection a task, the event loop waits for all of them.

Everything here runs in the loop's thread. A connection belongs to its transport; the stream, its
task and the server refer to it until the transport says that it is lost *and* the handler ended.
"""

import asyncio
from functools import partial

from neverblock.errors import (
    StreamBusyError,
)
from neverblock.servers.handler import HIGH_WATER, Handler, Stream, StreamInfo, report_failure
from neverblock.servers.listen import Listener, address_text, unix_peer_text


class LoopStream(Stream, asyncio.Protocol):
    """A stream over a transport of any asyncio loop."""

    __slots__ = (
        "_choked",
        "_closers",
        "_gone",
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

    def __init__(self, server: "LoopServer", scheme: str) -> None:
        super().__init__()
        self._server = server
        self._scheme = scheme
        self._peer = ""
        self._task: asyncio.Task[None] | None = None
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
            self._peer = address_text(self._transport.get_extra_info("peername"))
        return self._peer

    @property
    def info(self) -> StreamInfo:
        return StreamInfo(
            scheme=self._scheme,
            peer=self.peer,
            local=address_text(self._transport.get_extra_info("sockname")),
            model="loop",
            backend=self._server.backend,
        )

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        while self._choked:
            await self._unchoked()
        if not self._sendable:
            raise self._refusal()
        self._transport.write(data)

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
        while not self._gone:
            waiter = self._server.loop.create_future()
            self._closers = [*(self._closers or ()), waiter]
            try:
                await waiter
            except asyncio.CancelledError:
                self._transport.abort()
                raise

    def _unchoked(self) -> "asyncio.Future[None]":
        waiter = self._server.loop.create_future()
        if self._senders is None:
            self._senders = []
        self._senders.append(waiter)
        return waiter

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._sendable = False
            self._transport.close()
            self._wake()

    # What the buffer asks for

    def _fill(self, wanted: int) -> "asyncio.Future[None]":
        if self._waiter is not None and not self._waiter.done():
            raise StreamBusyError(f"another task receives from {self.peer}; receive in one task")
        if self._paused:
            self._resume()
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
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._scheme == "unix":
            # The kernel tells who it is only as long as the socket is open.
            self._peer = unix_peer_text(transport.get_extra_info("socket"))
        self._server.streams.add(self)
        self._task = self._server.loop.create_task(self._server.handler(self))
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

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        return True  # The sending half stays open.

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        if exc is not None or not (self._eof or self._closed):
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
        if self._waiter is None or self._waiter.done() or not self._held:
            self._pause()
            self._wake()

    def abort(self) -> None:
        """Drop the connection and what is queued, cancel the handler."""
        self._transport.abort()
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            report_failure(self.peer, error, self._gone)
        self._close()
        self._server.check(self)


class LoopServer:
    """Accepts on listeners and runs a handler for each connection, in the running loop."""

    def __init__(self, handler: Handler, listeners: list[Listener], backlog: int) -> None:
        self.handler = handler
        self.loop = asyncio.get_running_loop()
        self.backend = str(getattr(self.loop, "backend", type(self.loop).__name__))
        self.streams: set[LoopStream] = set()
        self._listeners = listeners
        self._backlog = backlog
        self._accepting: list[asyncio.Server] = []
        self._idle: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Accept connections."""
        for listener in self._listeners:
            factory = partial(LoopStream, self, listener.bind.scheme)
            for sock in listener.sockets:
                self._accepting.append(
                    await self.loop.create_server(factory, sock=sock, backlog=self._backlog)
                )

    def stop_accepting(self) -> None:
        """Close the listening sockets and remove those of Unix paths."""
        for server in self._accepting:
            server.close()
        for listener in self._listeners:
            listener.close()

    def end_input(self) -> None:
        """Ask every handler to come to its end: see Stream."""
        for stream in list(self.streams):
            stream.drain()

    async def wait_idle(self) -> None:
        """Return when no connection is open and no handler runs."""
        while self.streams:
            self._idle = self.loop.create_future()
            await self._idle

    def abort(self) -> int:
        """Drop what is still open; how many connections that was."""
        streams = list(self.streams)
        for stream in streams:
            stream.abort()
        return len(streams)

    def check(self, stream: LoopStream) -> None:
        """Forget the stream if it is over."""
        if stream.over:
            self.streams.discard(stream)
            if not self.streams and self._idle is not None and not self._idle.done():
                self._idle.set_result(None)


def release(waiters: "list[asyncio.Future[None]] | None") -> None:
    for waiter in waiters or ():
        if not waiter.done():
            waiter.set_result(None)
