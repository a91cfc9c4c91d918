"""Streams whose awaits never suspend: every wait is a blocking call in the handler's own thread.

A handler's coroutine is driven by a single ``send(None)``: what its stream does is done when the
call returns, so there is nothing to wait for. Whatever does suspend needs an event loop.

Invariants: one thread owns a stream and closes its socket; others may send, drain and abort. They
reach the socket under ``_guard``, never once ``_gone``, so that no number of a closed descriptor
is used. A wait and a drain cannot miss each other: each sets its own flag, then reads the other's.
"""

import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from types import FrameType
from typing import Any, Self, TypeAlias, TypeVar, cast

from neverblock.errors import (
    ConnectionLostError,
    EventLoopNeededError,
    StreamBusyError,
)
from neverblock.servers.handler import (
    AnyHandler,
    Handler,
    Stream,
    StreamInfo,
    is_async,
    report_failure,
)

#: Bytes asked of the kernel at once: at least, and at most for a handler that wants many.
CHUNK = 64 * 1024
LARGEST_CHUNK = 1024 * 1024

#: What Python says where there is no loop, and what asyncio says where it did not ask.
NO_RUNNING_LOOP = "no running event loop"
MISSED = (
    NO_RUNNING_LOOP,
    "no current event loop",
    "inside a task",
    "parent task",
    "'NoneType' object has no attribute",
)

Result = TypeVar("Result")


class SocketStream(Stream):
    """A stream over a blocking socket."""

    __slots__ = ("_cut", "_gone", "_guard", "_info", "_sendable", "_sending", "_sock", "_waiting")

    def __init__(self, sock: socket.socket, info: StreamInfo) -> None:
        super().__init__()
        self._sock = sock
        self._info = info
        self._sending = threading.Lock()
        # A signal's handler may drain where its own thread is closing.
        self._guard = threading.RLock()
        self._sendable = True
        self._waiting = False
        self._cut = False
        self._gone = False

    # What the handler calls

    @property
    def info(self) -> StreamInfo:
        return self._info

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        with self._sending:
            if not self._sendable:
                raise self._refusal()
            try:
                self._sock.sendall(data)
            except OSError as error:
                raise self._broken(error) from None

    async def send_eof(self) -> None:
        with self._sending:
            if self._closed or self._lost is not None:
                raise self._refusal()
            if self._sendable:
                self._sendable = False
                try:
                    self._sock.shutdown(socket.SHUT_WR)
                except OSError as error:
                    raise self._broken(error) from None

    async def aclose(self) -> None:
        # The descriptor stays until the handler ends: another thread may wait for it.
        with self._sending:
            if not self._closed:
                self._closed = True
                self._sendable = False
                self._shut(socket.SHUT_RDWR)

    # What the buffer asks for

    async def _fill(self, wanted: int) -> None:
        if self._waiting:
            raise StreamBusyError(
                f"another thread receives from {self.peer}; receive in one thread"
            )
        self._waiting = True
        try:
            if self._closed or (self._draining and not self._held):
                return
            missing = wanted - (len(self._held) - self._at)
            data = self._sock.recv(min(max(missing, CHUNK), LARGEST_CHUNK))
        except OSError as error:
            self._broken(error)
        else:
            self._received(data)
        finally:
            self._waiting = False

    def _received(self, data: bytes) -> None:
        if data:
            self._hold(data)
        elif not self._cut:
            self._eof = True
        elif self._held:
            # It began in the moment of the drain; its sender cannot tell that from too late.
            self._lost = self._lost or "the server drains"

    def _broken(self, error: OSError) -> ConnectionLostError:
        self._sendable = False
        if self._lost is None:
            self._lost = str(error)
        return ConnectionLostError(self.peer, self._lost)

    def _shut(self, how: int) -> None:
        with self._guard:
            if not self._gone:
                with suppress(OSError):  # Not connected any more: then that is done.
                    self._sock.shutdown(how)

    # What the server calls

    def drain(self) -> None:
        """End the input before the next message, as described in Stream."""
        self._draining = True
        if self._waiting and not self._held:
            self._cut = True
            self._shut(socket.SHUT_RD)  # Wakes the thread that waits in recv(2).

    def abort(self) -> None:
        """Drop the connection; whoever waits for it gets ConnectionLostError."""
        if self._lost is None:
            self._lost = "aborted"
        self._cut = True
        self._sendable = False
        self._shut(socket.SHUT_RDWR)

    @property
    def lost(self) -> bool:
        """Whether the connection broke or was aborted."""
        return self._lost is not None

    def close(self) -> None:
        """Close the socket, once what other threads are sending is sent."""
        with self._sending:
            self._closed = True
            self._sendable = False
            with self._guard:
                self._gone = True
                self._sock.close()


class BlockingStream:
    """A stream for a plain ``def handle(stream)``: the methods of Stream as blocking calls.

    Each does and raises what the method of that name in Stream does.
    """

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def peer(self) -> str:
        """The client's address, for people: see StreamInfo.peer."""
        return self._stream.peer

    @property
    def info(self) -> StreamInfo:
        """What is known of the connection."""
        return self._stream.info

    def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes, 1 to ``max_bytes`` of them; ``b""`` at the end."""
        return finish(self._stream.receive(max_bytes))

    def receive_exactly(self, n: int) -> bytes:
        """The next ``n`` bytes."""
        return finish(self._stream.receive_exactly(n))

    def receive_until(self, delimiter: bytes, max_bytes: int = 65536) -> bytes:
        """The next bytes up to and with ``delimiter``, at most ``max_bytes`` in all."""
        return finish(self._stream.receive_until(delimiter, max_bytes))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if chunk := self.receive():
            return chunk
        raise StopIteration

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``; returns when the kernel has it."""
        finish(self._stream.send(data))

    def send_eof(self) -> None:
        """Tell the peer that nothing more will be sent; receiving goes on (half-close)."""
        finish(self._stream.send_eof())

    def close(self) -> None:
        """End the connection, once what was sent has left. Closing twice is allowed."""
        finish(self._stream.aclose())


#: A handler that blocks: for every model but the loop's.
PlainHandler: TypeAlias = Callable[[BlockingStream], None]


def serve_stream(handler: AnyHandler, stream: SocketStream) -> None:
    """Run a handler to its end in this thread, in a context of its own; close the stream."""
    try:
        copy_context().run(run_handler, handler, stream)
    except BaseException as error:
        # A SystemExit, too, ends this connection alone.
        report_failure(stream.peer, error, stream.lost)
    finally:
        stream.close()


def run_handler(handler: AnyHandler, stream: SocketStream) -> None:
    if is_async(handler):
        drive(cast("Handler", handler)(stream), stream.info.model)
    else:
        cast("PlainHandler", handler)(BlockingStream(stream))


def finish(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("Result", end.value)
    raise RuntimeError("a blocking stream suspended")


def drive(coroutine: Coroutine[Any, Any, None], model: str) -> None:
    """Run a handler's coroutine; where it suspends, EventLoopNeededError is raised in it."""
    try:
        coroutine.send(None)
        while True:
            coroutine.throw(EventLoopNeededError(model, *suspension(coroutine)))
    except StopIteration:
        return
    except (RuntimeError, AttributeError) as error:
        # Much of asyncio asks for the running loop before it suspends.
        needed = failed_without_loop(error)
        if needed is None or isinstance(error, EventLoopNeededError):
            raise
        raise EventLoopNeededError(model, *needed) from error


def suspension(coroutine: object) -> tuple[str, str]:
    """What a suspended coroutine awaits, and where."""
    frames: list[FrameType] = []
    awaited: object = coroutine
    while awaited is not None:
        for prefix, following in (("cr", "await"), ("gi", "yieldfrom"), ("ag", "await")):
            frame = getattr(awaited, f"{prefix}_frame", None)
            if frame is not None:
                frames.append(frame)
                awaited = getattr(awaited, f"{prefix}_{following}")
                break
        else:
            break
    what = frames[-1].f_code.co_name
    if awaited is not None:  # A future gives an iterator over itself.
        what = f"a {type(awaited).__name__.removesuffix('Iter')}"
    return described([(frame, frame.f_lineno) for frame in frames], what)


def failed_without_loop(error: Exception) -> tuple[str, str] | None:
    """What asked for an event loop in vain, and where; None if this error is of another kind."""
    frames: list[tuple[FrameType, int]] = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    message = str(error)
    if message != NO_RUNNING_LOOP and not (
        in_asyncio(frames[-1][0]) and any(words in message for words in MISSED)
    ):
        return None
    return described(frames, "the running loop")


def described(frames: list[tuple[FrameType, int]], what: str) -> tuple[str, str]:
    """The first call into asyncio (else ``what``), and the line it stands on; outermost first."""
    place, line = frames[0]
    for frame, number in frames:
        if in_asyncio(frame):
            what = f"asyncio.{frame.f_code.co_qualname}"
            break
        place, line = frame, number
    return what, f"{place.f_code.co_filename}:{line}"


def in_asyncio(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "asyncio"
