"""A TLS client that can end its half and go on reading, which Python's own cannot.

It stands on ssl.SSLObject alone, and on nothing of what is tested.
"""

import socket
import ssl
import threading
from types import TracebackType
from typing import Self

#: What OpenSSL calls a record that was changed on its way; from 3.5 on, the latter.
DAMAGED = "bad record mac|record layer failure"


class Client:
    """A client's side, apart from any socket."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.secure = False
        self.received = b""
        self.ended = False
        self._shake_hands()

    def _shake_hands(self) -> None:
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return
        self.secure = True

    def take(self, data: bytes) -> None:
        """Bytes that came from the server. Raises ssl.SSLError."""
        self.incoming.write(data)
        if not self.secure:
            self._shake_hands()
        try:
            while self.secure and not self.ended:
                data = self.object.read(65536)
                self.received += data
                self.ended = not data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True

    def write(self, data: bytes) -> None:
        if data:
            self.object.write(data)

    def end(self) -> None:
        """Send close_notify."""
        try:
            self.object.unwrap()
        except ssl.SSLWantReadError:
            pass


class ClientSocket:
    """The same over a connected socket, with the methods of one; the handshake is done."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self.tls = Client(context)
        self._lock = threading.Lock()
        self._flush()
        try:
            while not self.tls.secure:
                self._receive()
        except BaseException:
            sock.close()
            raise

    def sendall(self, data: bytes) -> None:
        """For one thread, while another receives."""
        for at in range(0, len(data), 65536):
            with self._lock:
                self.tls.write(data[at : at + 65536])
                encrypted = self.tls.outgoing.read()
            self.sock.sendall(encrypted)

    def recv(self, n: int) -> bytes:
        while not self.tls.received and not self.tls.ended:
            self._receive()
        with self._lock:
            data, self.tls.received = self.tls.received[:n], self.tls.received[n:]
        return data

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR
        with self._lock:
            self.tls.end()
        self._flush()
        self.sock.shutdown(how)

    def close(self) -> None:
        self.sock.close()

    def settimeout(self, seconds: float | None) -> None:
        self.sock.settimeout(seconds)

    def setblocking(self, blocking: bool) -> None:
        self.sock.setblocking(blocking)

    def setsockopt(self, level: int, name: int, value: bytes) -> None:
        self.sock.setsockopt(level, name, value)

    def getsockname(self) -> object:
        return self.sock.getsockname()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _receive(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("the server's bytes ended without close_notify")
        try:
            with self._lock:
                self.tls.take(data)
        finally:
            self._flush()  # An alert may be in it.

    def _flush(self) -> None:
        with self._lock:
            encrypted = self.tls.outgoing.read()
        if encrypted:
            self.sock.sendall(encrypted)
