"""The handler API: ``async def handle(stream)``, the same under every server model.

A handler owns its stream until it returns; the server then sends what is still queued and closes
the connection. One task receives at a time; several may send, each send stays in one piece.

Under the models without a loop, or offloaded, a plain ``def handle(stream)`` will do as well.

Invariants of the buffer: ``_held`` is either one chunk as it came (``bytes``) or several joined
(``bytearray``); its first ``_at`` bytes are consumed; an empty one is ``b""`` with ``_at`` 0.
"""

import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, Self, TypeAlias

from neverblock.errors import (
    ConnectionLostError,
    HandlerError,
    IncompleteReceiveError,
    LimitExceededError,
    StreamClosedError,
)
from neverblock.servers.settings import MODELS, Settings

logger = logging.getLogger("neverblock.server")

#: Bytes that wait for the handler before reading from the peer pauses, and resumes.
HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024


class TlsInfo(NamedTuple):
    """What a client and the server agreed on in their TLS handshake."""

    version: str
    """``"TLSv1.3"`` or ``"TLSv1.2"``."""
    cipher: str
    """Its name in OpenSSL: ``"TLS_AES_256_GCM_SHA384"``."""
    alpn: str | None
    """The protocol that both sides speak (RFC 7301); None if they have none in common."""
    certificate: dict[str, Any] | None
    """The client's, verified, as ssl.SSLSocket.getpeercert() gives it; None if none was asked."""


class StreamInfo(NamedTuple):
    """What is known of a connection."""

    scheme: str
    """``"tcp"`` or ``"unix"``."""
    peer: str
    """The client: ``"127.0.0.1:40312"``, ``"[::1]:40312"``, ``"unix (pid 4711)"``."""
    local: str
    """The address the client connected to, in the same form, or the path of a Unix socket."""
    model: str
    """The server model that serves it: one of MODELS."""
    backend: str
    """What the loop model waits with: ``"epoll"``, ``"poll"`` …; ``""`` under the others."""
    tls: TlsInfo | None = None
    """What was agreed on with the client; None without TLS."""


class Stream:
    """One connection, as its handler sees it.

    A model extends this with ``_fill``, ``_resume``, ``send``, ``send_eof``, ``aclose``, ``peer``
    and ``info``; what is received goes through the one buffer here.

    When the server drains (SIGTERM), a handler that waits for its next message gets the end of
    the input, as if the client had hung up, so one that ends at ``b""`` ends at once. One that is
    in the middle of a ``receive_exactly`` or ``receive_until`` still gets the rest.
    """

    __slots__ = (
        "__weakref__",
        "_at",
        "_closed",
        "_draining",
        "_eof",
        "_held",
        "_lost",
        "_paused",
    )

    def __init__(self) -> None:
        self._held: bytes | bytearray = b""
        self._at = 0
        self._paused = False
        self._eof = False
        self._draining = False
        self._closed = False
        self._lost: str | None = None

    @property
    def peer(self) -> str:
        """The client's address, for people: see StreamInfo.peer."""
        return self.info.peer

    @property
    def info(self) -> StreamInfo:
        """What is known of the connection."""
        raise NotImplementedError

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes, 1 to ``max_bytes`` of them, as soon as there are any; ``b""`` at the end.

        Cancelled, it has consumed nothing. Raises ConnectionLostError once all that came before
        the loss has been received, StreamClosedError after ``aclose``, StreamBusyError while
        another task receives.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
        while not (held := self._held):
            if self._at_end():
                return b""
            await self._fill(1)
        if self._at == 0 and len(held) <= max_bytes and type(held) is bytes:
            # Nearly always: one chunk, handed on as it came.
            self._held = b""
            if self._paused:
                self._consumed()
            return held
        return self._take(min(max_bytes, len(held) - self._at))

    async def receive_exactly(self, n: int) -> bytes:
        """The next ``n`` bytes.

        Raises IncompleteReceiveError with what there was, if the input ends before them, and
        what ``receive`` raises. Cancelled, it has consumed nothing.
        """
        if n < 0:
            raise ValueError(f"n must be at least 0, not {n}")
        while len(self._held) - self._at < n:
            if self._at_end():
                raise IncompleteReceiveError(self._take_all(), f"{n} bytes")
            await self._fill(n)
        return self._take(n)

    async def receive_until(self, delimiter: bytes, max_bytes: int = 65536) -> bytes:
        """The next bytes up to and with ``delimiter``, at most ``max_bytes`` in all.

        Raises LimitExceededError if there is no delimiter within them, IncompleteReceiveError
        with what there was, if the input ends before it, and what ``receive`` raises.
        Cancelled, or past the limit, it has consumed nothing.
        """
        if not delimiter:
            raise ValueError("delimiter must not be empty")
        searched = 0
        while True:
            at = self._at
            size = len(self._held) - at
            found = self._held.find(delimiter, at + searched, at + max_bytes)
            if found >= 0:
                return self._take(found + len(delimiter) - at)
            if size >= max_bytes:
                raise LimitExceededError(delimiter, max_bytes)
            if self._at_end():
                raise IncompleteReceiveError(self._take_all(), repr(delimiter))
            searched = max(0, size - len(delimiter) + 1)
            await self._fill(size + 1)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if chunk := await self.receive():
            return chunk
        raise StopAsyncIteration

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Queue all of ``data``, once what the peer has not yet taken is below the high-water mark.

        ``data`` must not be changed afterwards. Cancelled, it has sent nothing. Raises
        ConnectionLostError, and StreamClosedError after ``aclose`` or ``send_eof``.
        """
        raise NotImplementedError

    async def send_eof(self) -> None:
        """Tell the peer that nothing more will be sent; receiving goes on (half-close)."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Send what is queued, close the connection, return when it is gone.

        Tasks that wait in ``receive`` or ``send`` get StreamClosedError. Cancelled, it drops what
        is still queued. Closing twice is allowed. A handler that just returns needs none of it.
        """
        raise NotImplementedError

    def _fill(self, wanted: int) -> Awaitable[None]:
        """Wait until ``wanted`` bytes are held, or as much as there will be. Consumes nothing."""
        raise NotImplementedError

    def _resume(self) -> None:
        """Read from the peer again."""
        raise NotImplementedError

    def _at_end(self) -> bool:
        """Whether no byte follows those held; raises where that is no orderly end."""
        if self._closed:
            raise StreamClosedError(f"stream with {self.peer} is closed: aclose() was called")
        if self._eof:
            return True
        if self._lost is not None:
            raise ConnectionLostError(self.peer, self._lost)
        return self._draining and not self._held

    def _refusal(self) -> Exception:
        """Why nothing can be sent."""
        if self._lost is not None:
            return ConnectionLostError(self.peer, self._lost)
        cause = "aclose()" if self._closed else "send_eof()"
        return StreamClosedError(f"cannot send to {self.peer}: {cause} was called")

    def _take(self, n: int) -> bytes:
        held, at = self._held, self._at
        end = at + n
        data = held[at:end] if type(held) is bytes else bytes(memoryview(held)[at:end])
        if end == len(held):
            self._held, self._at = b"", 0
        else:
            self._at = end
        if self._paused:
            self._consumed()
        return data

    def _take_all(self) -> bytes:
        return self._take(len(self._held) - self._at)

    def _consumed(self) -> None:
        if len(self._held) - self._at <= LOW_WATER and not (self._draining or self._closed):
            self._resume()

    def _hold(self, data: bytes) -> None:
        """Keep what came from the peer."""
        held, at = self._held, self._at
        if not held:
            self._held = data
            return
        if isinstance(held, bytes):
            # Slicing at the front of a bytearray moves nothing, so consuming stays cheap.
            held = self._held = bytearray(memoryview(held)[at:])
        else:
            del held[:at]
        self._at = 0
        held += data


Handler: TypeAlias = Callable[[Stream], Coroutine[Any, Any, None]]

#: A Handler, a plain function (see servers.plain), or asyncio's of a reader and a writer.
AnyHandler: TypeAlias = Handler | Callable[[Any], None] | Callable[[Any, Any], Any]


def check(handler: object, name: str, settings: Settings) -> AnyHandler:
    """``handler``, if it can be one under these settings. Raises HandlerError."""
    function = name.rpartition(":")[2]
    if not callable(handler):
        raise HandlerError(
            f"{name} is {type(handler).__name__}, which cannot be called; "
            f"name an `async def {function}(stream)`"
        )
    if inspect.isclass(handler) or (
        settings.model == "loop" and not settings.offload and not is_async(handler)
    ):
        raise HandlerError(
            f"{name} is not async; write `async def {function}(stream)` "
            f"and await what the stream does"
            + ("" if inspect.isclass(handler) else ", or serve it with --offload or --model thread")
        )
    if settings.offload and is_async(handler):
        raise HandlerError(
            f"{name} is async, which the loop runs itself; leave --offload out, it is for a plain "
            f"`def {function}(stream)`"
        )
    if takes_reader_and_writer(handler):
        if settings.model != "loop":
            raise HandlerError(
                f"{name} takes asyncio's (reader, writer), which need an event loop; serve it with "
                f"--model loop, or write `async def {function}(stream)`"
            )
    elif not takes(handler, 1):
        raise HandlerError(
            f"{name} cannot be called with one argument; write `async def {function}(stream)`"
        )
    check_declared(handler, name, settings.model)
    return handler


def takes(handler: Callable[..., Any], arguments: int) -> bool:
    """Whether it can be called with so many; a signature that cannot be read is not a wrong one."""
    try:
        inspect.signature(handler).bind(*[None] * arguments)
    except TypeError:
        return False
    except ValueError:
        return arguments == 1
    return True


def takes_reader_and_writer(handler: Callable[..., Any]) -> bool:
    """Whether it is asyncio's ``async def handle(reader, writer)``."""
    return is_async(handler) and takes(handler, 2) and not takes(handler, 1)


def check_declared(handler: object, name: str, model: str) -> None:
    """Refuse a model that is not among the ``models`` that the handler's module declares."""
    module = sys.modules.get(getattr(handler, "__module__", None) or "")
    declared: object = getattr(module, "models", None)
    if not isinstance(declared, tuple) or not any(known in declared for known in MODELS):
        return  # Nothing of ours: `models` is a common name.
    if unknown := [each for each in declared if each not in MODELS]:
        raise HandlerError(
            f"{name}: its module declares models = {declared!r}, and there is no {unknown[0]!r}; "
            f"choose of {', '.join(MODELS)}"
        )
    if model not in declared:
        raise HandlerError(
            f"{name} cannot be served under the {model} model: its module declares "
            f"models = {declared!r}; choose one of these, like --model {declared[0]}"
        )


def is_async(handler: Any) -> bool:
    """Whether calling it makes a coroutine: an async function, or an object that acts as one."""
    if inspect.isclass(handler):
        return False
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        type(handler).__call__
    )


def report_failure(peer: str, error: BaseException, lost: bool) -> None:
    """Log what a handler ended with; that the client left is no failure."""
    if hung_up(error) or (isinstance(error, ConnectionLostError) and lost):
        logger.debug("%s left: %s", peer, error, extra={"peer": peer})
    else:
        logger.error("handler failed, closing %s", peer, exc_info=error, extra={"peer": peer})


def hung_up(error: BaseException) -> bool:
    """Whether the input just ended where a handler waited for its next message."""
    return isinstance(error, IncompleteReceiveError) and not error.partial
