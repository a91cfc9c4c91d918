"""TLS under the loop model: between a raw transport of any asyncio loop and a protocol.

To the raw transport it is a protocol, to the connection's protocol a transport. asyncio's own TLS
cannot end one half of a connection and go on with the other; that is why this is here.

- Everything runs in the loop's thread.
- The protocol has the transport from the beginning, to close or abort it; ``begin()`` tells it
  that the handshake is done, and nothing is received before. A handshake that fails is logged
  here, and only costs its own connection: the protocol is told that it is lost.
- What the raw transport tells of its buffer counts ciphertext.
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, Protocol, cast

from neverblock.servers.sockets import acknowledge
from neverblock.servers.tls.session import (
    HANDSHAKE_TIMEOUT,
    MOST_ANSWERS,
    SLICE,
    Session,
    TlsError,
    UnreadAnswersError,
    report_failure,
)


class Secured(Protocol):
    """The protocol of a connection, which is told when that is secure."""

    @property
    def peer(self) -> str:
        """The client's address, for people."""

    def begin(self) -> None:
        """The handshake is done: data may come, and be written."""

    def connection_made(self, transport: asyncio.BaseTransport, /) -> None: ...
    def data_received(self, data: bytes, /) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None, /) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """The server's side of a TLS connection over a raw transport."""

    __slots__ = (
        "__weakref__",
        "_answers",
        "_closing",
        "_ended",
        "_eof",
        "_error",
        "_loop",
        "_protocol",
        "_raw",
        "_session",
        "_timer",
    )

    _raw: asyncio.Transport

    def __init__(
        self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext, protocol: Secured
    ) -> None:
        super().__init__()
        self._loop = loop
        self._protocol: Secured | None = protocol
        self._session = Session(context)
        self._timer: asyncio.TimerHandle | None = None
        self._error: Exception | None = None
        self._answers = 0  # Bytes of TLS's own since the raw transport had none to send.
        self._closing = False
        self._eof = False  # Ours is sent.
        self._ended = False  # The peer's is told.

    # What the raw transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self._protocol is not None
        self._raw = cast("asyncio.Transport", transport)
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT, self._take_too_long)
        self._protocol.connection_made(self)

    def data_received(self, data: bytes) -> None:
        session, protocol = self._session, self._protocol
        assert protocol is not None
        plaintext = session.receive(data)
        if session.due and not (self._eof or self._closing):
            self._answer()
        if self._timer is not None:
            if not session.established:
                if session.failure is not None:
                    self._fail(TlsError(session.failure))
                return
            self._timer.cancel()
            self._timer = None
            if session.withholds:
                acknowledge(self._raw.get_extra_info("socket"))
            protocol.begin()  # It may close at once.
        if plaintext and not self._closing:
            protocol.data_received(plaintext)
        if session.ended:
            self._end_input()
        elif session.failure is not None:
            self._fail(TlsError(session.failure))

    def eof_received(self) -> bool:
        if self._timer is not None:
            self._fail(ConnectionResetError("the peer left"))
        else:
            self._end_input()
        return True  # The sending half stays open.

    def connection_lost(self, exc: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        assert protocol is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            if exc is not None:
                report_failure(protocol.peer, exc)
        protocol.connection_lost(exc or self._error)

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    def _answer(self) -> None:
        if not self._raw.get_write_buffer_size():
            self._answers = 0
        answer = self._session.output()
        self._raw.write(answer)
        self._answers += len(answer)
        if self._answers > MOST_ANSWERS:
            self._fail(UnreadAnswersError())

    def _end_input(self) -> None:
        if self._ended or self._closing or self._protocol is None:
            return
        self._ended = True
        self._raw.pause_reading()  # Nothing that may still come means anything.
        if not self._protocol.eof_received():
            self.close()

    def _fail(self, error: Exception) -> None:
        if self._closing:
            return
        if self._protocol is not None and not self._session.established:
            report_failure(self._protocol.peer, error)
        self._error = error
        if not self._eof:
            self._raw.write(self._session.output())  # The alert that tells the peer why.
        self.abort()

    def _take_too_long(self) -> None:
        self._fail(TlsError(f"it takes longer than {HANDSHAKE_TIMEOUT:g} s"))
        self._raw.abort()  # It may have been closed, with a rest that nobody takes.

    # What the connection's protocol, and its handler, call

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send a bytes-like object, in order, without waiting."""
        if self._eof:
            raise RuntimeError("cannot write after write_eof()")
        if self._closing:
            return
        if type(data) is not bytes:
            data = memoryview(data).cast("B")
        if len(data) <= SLICE:
            self._raw.write(self._session.send(data))
        else:
            with memoryview(data) as view:
                for at in range(0, len(view), SLICE):
                    self._raw.write(self._session.send(view[at : at + SLICE]))
        if self._session.failure is not None:
            self._fail(TlsError(self._session.failure))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """The same for several."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """TLS ends one half, and goes on with the other (RFC 8446, 6.1)."""
        return True

    def write_eof(self) -> None:
        """Send close_notify, and the end of the raw connection's half. Receiving goes on."""
        if self._eof or self._closing:
            return
        self._eof = True
        self._raw.write(self._session.end())
        self._raw.write_eof()

    def close(self) -> None:
        """Close when all that was written is sent, close_notify last; wait for none."""
        if self._closing:
            return
        self._closing = True
        if not self._eof:
            self._raw.write(self._session.end())
        self._raw.close()

    def abort(self) -> None:
        """Close at once: what the kernel has not taken is lost."""
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing or self._raw.is_closing()

    def is_reading(self) -> bool:
        """Whether received data goes to the protocol."""
        return not self._ended and self._raw.is_reading()

    def pause_reading(self) -> None:
        """Receive no more until resume_reading()."""
        if not self._ended:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Receive again."""
        if not self._ended:
            self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Above which and below which the protocol is told, bytes of ciphertext."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and the high one, bytes of ciphertext."""
        return self._raw.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Bytes of ciphertext that are not yet sent."""
        return self._raw.get_write_buffer_size()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what comes to another protocol."""
        self._protocol = cast("Secured", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol now."""
        return cast("asyncio.BaseProtocol", self._protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What asyncio's TLS tells, what the raw transport does, and "tls": a TlsInfo.

        But no "sslcontext": by that name asyncio's streams know a transport that cannot end one
        half. It is the ``context`` of "ssl_object".
        """
        if name == "ssl_object":
            return self._session.object
        if self._session.established:
            match name:
                case "tls":
                    return self._session.info()
                case "peercert":
                    return self._session.info().certificate or default
                case "cipher":
                    return self._session.object.cipher()
        return self._raw.get_extra_info(name, default)
