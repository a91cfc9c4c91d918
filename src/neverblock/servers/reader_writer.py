"""asyncio's ``async def handle(reader, writer)`` under the loop model.

Reader, writer and their protocol are asyncio's own; what is added is the server's side: the drain,
the idle timeout, the abort, the log. The connection stands between the transport and that
protocol, and is over when the transport is gone *and* the handler ended. Everything runs in the
loop's thread.
"""

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from neverblock.servers.handler import report_failure
from neverblock.servers.idle import IdleTimer
from neverblock.servers.listen import Address, peer_text, set_accepted
from neverblock.servers.sockets import reset

if TYPE_CHECKING:
    from neverblock.servers.loop import LoopServer

ReaderWriterHandler: TypeAlias = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]
]


class ReaderWriterConnection(asyncio.Protocol):
    """A connection that its handler sees as a reader and a writer.

    When the server drains, the reader comes to its end as soon as nothing unread is left in it.
    """

    __slots__ = (
        "__weakref__",
        "_address",
        "_choked",
        "_draining",
        "_gone",
        "_idle",
        "_lost",
        "_protocol",
        "_reader",
        "_scheme",
        "_server",
        "_task",
        "_transport",
        "peer",
    )

    def __init__(self, server: "LoopServer", scheme: str, address: Address) -> None:
        self._server = server
        self._scheme = scheme
        self._address = address
        self.peer = ""
        self._reader = Reader(self, server.loop)
        self._protocol = asyncio.StreamReaderProtocol(self._reader, loop=server.loop)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._idle: IdleTimer | None = None
        self._choked = False
        self._draining = False
        self._gone = False
        self._lost: str | None = None

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)
        self.peer = peer_text(transport.get_extra_info("socket"), self._scheme, self._address)
        if not self._server.settings.nodelay:  # The loop has turned it on.
            set_accepted(transport.get_extra_info("socket"), self._server.settings)
        if self._lost is not None:  # Aborted before it began.
            self.abort(self._lost)
        elif self._server.tls is None:
            self.begin()
        elif self._draining:
            transport.close()

    def begin(self) -> None:
        """The connection is ready for its handler: its TLS handshake, if any, is done."""
        transport = self._transport
        assert transport is not None
        self._protocol.connection_made(transport)
        if self._server.settings.idle_timeout is not None:
            self._idle = IdleTimer(self._server.loop, self._server.settings.idle_timeout, self)
        arguments = (transport, self._protocol, self._reader, self._server.loop)
        writer = (
            asyncio.StreamWriter(*arguments)
            if self._idle is None
            else TimedWriter(self._idle, *arguments)
        )
        self._server.begun(self)
        handler = cast("ReaderWriterHandler", self._server.handler)
        self._task = self._server.loop.create_task(handler(self._reader, writer))
        self._task.add_done_callback(self._ended)
        if self._draining:
            self._end_when_read()

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)
        if self._idle is not None:
            self._idle.touch()
        if self._draining:
            # After the handler's own turn, which takes what it waits for.
            self._server.loop.call_soon(self._end_when_read)

    def eof_received(self) -> bool:
        self._protocol.eof_received()
        return True  # The sending half stays open.

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        if self._idle is not None:
            self._idle.cancel()
        if exc is None and self._lost is not None:
            exc = ConnectionResetError(self._lost)
        self._protocol.connection_lost(exc)
        self._server.check(self)

    def pause_writing(self) -> None:
        self._choked = True
        self._protocol.pause_writing()
        if self._idle is not None:
            self._idle.touch()

    def resume_writing(self) -> None:
        self._choked = False
        self._protocol.resume_writing()
        if self._idle is not None:
            self._idle.touch()

    # What the reader calls

    def reading(self) -> None:
        """The handler reads on: it waits for the peer from here, if nothing is held."""
        if self._idle is not None:
            self._idle.touch()
        if self._draining:
            self._end_when_read()

    # What the server and the idle timer call

    @property
    def over(self) -> bool:
        """Whether the connection is gone and its handler has ended."""
        return self._gone and self._task is None

    @property
    def waits_for_peer(self) -> bool:
        """Whether the handler reads or drains, or the end waits for what is unsent."""
        return self._choked or self._task is None or reads(self._reader)

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not yet taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def drain(self) -> None:
        """End the input before the next message."""
        self._draining = True
        if self._task is None and self._transport is not None:
            self._transport.close()  # Its handshake is not done.
        self._end_when_read()

    def abort(self, reason: str) -> None:
        """Reset the connection, cancel the handler."""
        self._lost = self._lost or reason
        if self._transport is not None:
            reset(self._transport)
        if self._task is not None:
            self._task.cancel()

    def refuse(self) -> None:
        """It could not begin: there is no transport."""
        self._gone = True
        self._server.check(self)

    def _end_when_read(self) -> None:
        if self._task is None or self._gone or unread(self._reader):
            return
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._reader.feed_eof()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            report_failure(self.peer, error, self._gone)
        if self._transport is not None:
            self._transport.close()
        if self._idle is not None:
            self._idle.touch()
        self._server.check(self)


class Reader(asyncio.StreamReader):
    """asyncio's, which tells its connection that somebody reads."""

    def __init__(self, connection: ReaderWriterConnection, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._connection = weakref.ref(connection)  # Which has this one.

    def read(self, n: int = -1) -> Coroutine[Any, Any, bytes]:
        self._tell()
        return super().read(n)

    def readexactly(self, n: int) -> Coroutine[Any, Any, bytes]:
        self._tell()
        return super().readexactly(n)

    def readuntil(self, separator: Any = b"\n") -> Coroutine[Any, Any, bytes]:
        self._tell()
        return super().readuntil(separator)

    def _tell(self) -> None:
        connection = self._connection()
        if connection is not None:
            connection.reading()


class TimedWriter(asyncio.StreamWriter):
    """asyncio's, which lets the idle timer see what is written."""

    def __init__(
        self,
        idle: IdleTimer,
        transport: asyncio.WriteTransport,
        protocol: asyncio.BaseProtocol,
        reader: asyncio.StreamReader,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(transport, protocol, reader, loop)
        self._idle = idle

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._idle.send(super().write, data)

    def writelines(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._idle.send(super().writelines, data)


# asyncio does not say what its readers hold and whether somebody waits for more.


def unread(reader: asyncio.StreamReader) -> bool:
    """Whether the reader holds bytes."""
    return bool(reader._buffer)  # type: ignore[attr-defined]


def reads(reader: asyncio.StreamReader) -> bool:
    """Whether a task waits for bytes."""
    return reader._waiter is not None  # type: ignore[attr-defined]
