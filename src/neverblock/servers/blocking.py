"""Streams whose awaits never suspend: every wait is a blocking call in the handler's own thread.

Invariants: one thread owns a stream and closes its socket; others may send, drain and abort. They
reach the socket under ``_guard``, never once ``_gone``, so that no number of a closed descriptor
is used. A wait and a drain cannot miss each other: each sets its own flag, then reads the other's.
"""

import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import cast

from neverblock.errors import ConnectionLostError, StreamBusyError
from neverblock.servers.drive import drive
from neverblock.servers.handler import (
    AnyHandler,
    Handler,
    Stream,
    StreamInfo,
    is_async,
    report_failure,
)
from neverblock.servers.plain import BlockingStream, PlainHandler, finish
from neverblock.servers.settings import Settings
from neverblock.servers.sockets import linger
from neverblock.servers.tls.blocking import TlsSocket
from neverblock.servers.tls.session import report_failure as report_failed_handshake

logger = logging.getLogger("neverblock.server")

#: Bytes asked of the kernel at once: at least, and at most for a handler that wants many.
CHUNK = 64 * 1024
LARGEST_CHUNK = 1024 * 1024


class SocketStream(Stream):
    """A stream over a blocking socket."""

    __slots__ = (
        "_cut",
        "_gone",
        "_guard",
        "_info",
        "_patience",
        "_sendable",
        "_sending",
        "_sock",
        "_waiting",
    )

    def __init__(
        self,
        sock: socket.socket,
        info: StreamInfo,
        settings: Settings,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self._sock = sock if tls is None else TlsSocket(sock, tls)
        self._info = info
        self._patience = settings.idle_timeout
        sock.settimeout(self._patience)
        self._sending = threading.Lock()
        # A signal's handler may drain where its own thread is closing.
        self._guard = threading.RLock()
        self._sendable = True
        self._waiting = False
        self._cut = False
        self._gone = False

    def open(self) -> bool:
        """Shake hands, where there is TLS; whether the handler may begin."""
        if not isinstance(self._sock, TlsSocket):
            return True
        self._waiting = True  # So that a drain ends it.
        try:
            if self._draining:
                return False
            self._info = self._info._replace(tls=self._sock.handshake())
        except OSError as error:
            if self._lost is None and not self._cut:
                report_failed_handshake(self.peer, error)
            self._sendable = False
            return False
        finally:
            self._waiting = False
        return True

    # What the handler calls

    @property
    def info(self) -> StreamInfo:
        return self._info

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        with self._sending:
            if not self._sendable:
                raise self._refusal()
            try:
                self._send_all(data)
            except OSError as error:
                raise self._broken(error) from None

    def _send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._patience is None:
            self._sock.sendall(data)
            return
        # sendall's timeout is for all of it; a peer that takes some of it is not idle.
        with memoryview(data).cast("B") as rest:
            sent = 0
            while sent < len(rest):
                sent += self._sock.send(rest[sent:])

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
                self._say_end()
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
            if isinstance(error, TimeoutError) and error.errno is None:
                self._lost = f"idle for {self._patience:g} s"
                logger.info("closing %s: %s", self.peer, self._lost, extra={"peer": self.peer})
            else:
                self._lost = str(error)
        return ConnectionLostError(self.peer, self._lost)

    def _say_end(self) -> None:
        """Send no more; TLS has a word for that. May wait, as ``send``, for a peer that reads."""
        if self._sendable and isinstance(self._sock, TlsSocket):
            with suppress(OSError):
                self._sock.say_end()
        self._sendable = False

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

    def abort(self, reason: str) -> None:
        """Reset the connection, now; whoever waits for it gets ConnectionLostError."""
        if self._lost is None:
            self._lost = reason
        self._cut = True
        self._sendable = False
        with self._guard:
            if self._gone:
                return
            self.reset_unless_closed()
            # Wakes the thread that waits in send(2), or in recv(2), which no end of ours may reach.
            self._shut(socket.SHUT_RDWR if self._sending.locked() else socket.SHUT_RD)
            disconnect(self._sock)

    def reset_unless_closed(self) -> None:
        """Let the kernel reset the connection if anything but ``close`` ends it (socket(7))."""
        linger(self._sock, True)

    @property
    def lost(self) -> bool:
        """Whether the connection broke or was aborted."""
        return self._lost is not None

    def close(self) -> None:
        """Close the socket, once what other threads are sending is sent."""
        with self._sending:
            self._closed = True
            self._say_end()
            with self._guard:
                self._gone = True
                if self._lost is None:
                    linger(self._sock, False)
                self._sock.close()


def serve_stream(
    handler: AnyHandler,
    stream: SocketStream,
    begins: Callable[[SocketStream], None] = lambda _: None,
) -> None:
    """Run a handler to its end in this thread, in a context of its own; close the stream.

    ``begins`` is called before.
    """
    try:
        if stream.open():
            begins(stream)
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
        cast("PlainHandler", handler)(BlockingStream(stream, finish))


def disconnect(sock: socket.socket | TlsSocket) -> None:
    """Let the kernel close the connection now, while the descriptor's number stays its owner's."""
    with suppress(OSError):  # No descriptor left: then once the owner closes it.
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.dup2(nothing, sock.fileno(), inheritable=False)
        finally:
            os.close(nothing)
