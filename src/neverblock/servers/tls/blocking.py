"""TLS over a blocking socket: what a SocketStream asks of its socket, with a session in between.

Several threads may send while one receives, and OpenSSL's objects are not for two at once: so
``_lock`` is the session's, and nobody waits for the peer while holding it. ``_wire`` is held by
whoever sends, from the encryption to the last byte, for records must leave in the order in which
they were made. Who receives never waits for it: answers that TLS itself makes leave with the next
``send``, if now is not the time.

``shutdown(SHUT_RD)`` and ``shutdown(SHUT_RDWR)`` are the raw socket's, without a lock: they end
what another thread, or the code that a signal interrupted, is waiting for.
"""

import os
import socket
import ssl
import threading
import time
from contextlib import suppress

from neverblock.servers.handler import TlsInfo
from neverblock.servers.sockets import acknowledge
from neverblock.servers.tls.session import (
    HANDSHAKE_TIMEOUT,
    MOST_ANSWERS,
    SLICE,
    Session,
    TlsError,
    UnreadAnswersError,
)


class TlsSocket:
    """The server's side of a TLS connection over a connected socket, which it closes."""

    __slots__ = (
        "_broken",
        "_lock",
        "_plaintext",
        "_said_end",
        "_session",
        "_sock",
        "_unsent",
        "_wire",
    )

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._session = Session(context)
        self._lock = threading.Lock()
        self._wire = threading.Lock()
        self._plaintext = b""
        self._unsent = b""
        self._said_end = False
        self._broken = False

    def handshake(self) -> TlsInfo:
        """Agree with the peer; what on. Raises TlsError, OSError."""
        deadline = time.monotonic() + HANDSHAKE_TIMEOUT
        patience = self._sock.gettimeout()
        session = self._session
        try:
            while not session.established:
                self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
                data = self._sock.recv(SLICE)
                if not data:
                    raise ConnectionResetError("the peer left")
                self._plaintext = session.receive(data)
                if session.withholds and session.due:
                    self._answer()  # What else came with the peer's last message asks for it.
                elif session.due:
                    self._put(session.output())
                if session.failure is not None and not session.established:
                    raise TlsError(session.failure)
        except TimeoutError as error:
            if error.errno is not None:
                raise
            raise TlsError(f"it takes longer than {HANDSHAKE_TIMEOUT:g} s") from None
        finally:
            with suppress(OSError):
                self._sock.settimeout(patience)
        if session.withholds:
            acknowledge(self._sock)
        return session.info()

    def recv(self, n: int) -> bytes:
        """The next 1 to ``n`` bytes of plaintext; ``b""`` at the end, with close_notify or without.

        Raises TlsError, OSError.
        """
        session = self._session
        while not self._plaintext:
            if session.ended:
                return b""
            if session.failure is not None:
                raise TlsError(session.failure)
            data = self._sock.recv(n)
            if not data:
                return b""
            with self._lock:
                self._plaintext = session.receive(data)
                due = session.due
            if due:
                self._answer()
        data, self._plaintext = self._plaintext[:n], self._plaintext[n:]
        return data

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send the beginning of ``data``; how many bytes that was. Raises TlsError, OSError."""
        part = data
        if type(data) is not bytes or len(data) > SLICE:
            part = memoryview(data).cast("B")[:SLICE]
        with self._wire:
            with self._lock:
                encrypted = self._session.send(part)
                failure = self._session.failure
            self._put(encrypted)
        if failure is not None:
            raise TlsError(failure)
        return len(part)

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``. Raises TlsError, OSError."""
        sent = self.send(data)
        rest = memoryview(data).cast("B")
        while sent < len(rest):
            sent += self.send(rest[sent:])

    def shutdown(self, how: int) -> None:
        """End a half, or both: SHUT_WR says so by close_notify before, the others do not."""
        if how == socket.SHUT_WR:
            self.say_end()
        self._sock.shutdown(how)

    def say_end(self) -> None:
        """Send close_notify, if nothing else was the last that was sent. Raises OSError."""
        with self._wire:
            if self._said_end or self._broken:
                return
            self._said_end = True
            with self._lock:
                encrypted = self._session.end()
            self._put(encrypted)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def setsockopt(self, level: int, name: int, value: int | bytes, /) -> None:
        self._sock.setsockopt(level, name, value)

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)

    def _put(self, encrypted: bytes) -> None:
        """Send it all, in parts: a timeout is for each, and a peer that takes some is not idle."""
        data = self._unsent + encrypted if self._unsent else encrypted
        self._unsent = b""
        try:
            sent = self._sock.send(data)
            while sent < len(data):
                sent += self._sock.send(memoryview(data)[sent:])
        except BaseException:
            self._broken = True  # In the midst of a record: there is no going on.
            raise

    def _answer(self) -> None:
        """Send what TLS itself has to say, as far as the kernel takes it now."""
        if not self._wire.acquire(blocking=False):
            return
        try:
            with self._lock:
                data = self._unsent + self._session.output()
            if not (self._said_end or self._broken):
                self._unsent = data[self._send_now(data) :]
        except OSError:
            self._broken = True  # Received bytes are handed out first: the next recv() tells.
        finally:
            self._wire.release()
        if len(self._unsent) > MOST_ANSWERS:
            self._broken = True
            raise UnreadAnswersError

    def _send_now(self, data: bytes) -> int:
        try:
            if self._sock.gettimeout() is None:
                return self._sock.send(data, socket.MSG_DONTWAIT)
            # With a timeout the descriptor does not block, and Python waits before it asks.
            return os.write(self._sock.fileno(), data)
        except BlockingIOError:
            return 0
