"""A stream for plain functions: every method of a stream as a call that blocks its thread."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, Self, TypeAlias, TypeVar, cast

from neverblock.servers.handler import Stream, StreamInfo

Result = TypeVar("Result")


class Finish(Protocol):
    """Takes a stream's coroutine to its end, in the thread that calls."""

    def __call__(self, coroutine: Coroutine[Any, Any, Result], /) -> Result: ...


class BlockingStream:
    """A stream for a plain ``def handle(stream)``: the methods of Stream as blocking calls.

    Each does and raises what the method of that name in Stream does.
    """

    __slots__ = ("_finish", "_stream")

    def __init__(self, stream: Stream, finish: Finish) -> None:
        self._stream = stream
        self._finish = finish

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
        return self._finish(self._stream.receive(max_bytes))

    def receive_exactly(self, n: int) -> bytes:
        """The next ``n`` bytes."""
        return self._finish(self._stream.receive_exactly(n))

    def receive_until(self, delimiter: bytes, max_bytes: int = 65536) -> bytes:
        """The next bytes up to and with ``delimiter``, at most ``max_bytes`` in all."""
        return self._finish(self._stream.receive_until(delimiter, max_bytes))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if chunk := self.receive():
            return chunk
        raise StopIteration

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``; returns when the kernel has it."""
        self._finish(self._stream.send(data))

    def send_eof(self) -> None:
        """Tell the peer that nothing more will be sent; receiving goes on (half-close)."""
        self._finish(self._stream.send_eof())

    def close(self) -> None:
        """End the connection, once what was sent has left. Closing twice is allowed."""
        self._finish(self._stream.aclose())


#: A handler that blocks: for every model but the loop's, which needs ``offload`` for it.
PlainHandler: TypeAlias = Callable[[BlockingStream], None]


def finish(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("Result", end.value)
    raise RuntimeError("a blocking stream suspended")
