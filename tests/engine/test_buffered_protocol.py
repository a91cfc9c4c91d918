"""BufferedProtocol: buffers of every size and kind, errors, a protocol changed in mid-stream."""

import array
import asyncio
import socket

import pytest

from .wire import Recorder, accept_end, open_end, pair, pattern, reset


class Buffered(asyncio.BufferedProtocol):
    """Hands out buffers by `make`, keeps what arrives, ends the run by `done`."""

    def __init__(self, make=lambda: bytearray(1000)):
        self.make = make
        self.data = bytearray()
        self.hints = []
        self.sizes = []
        self.transport = None
        self.got_eof = False
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        self.hints.append(sizehint)
        self.buffer = self.make()
        return self.buffer

    def buffer_updated(self, nbytes):
        assert nbytes > 0
        self.sizes.append(nbytes)
        self.data += memoryview(self.buffer).tobytes()[:nbytes]

    def eof_received(self):
        assert not self.got_eof
        self.got_eof = True

    def connection_lost(self, exc):
        assert not self.done.done(), "a second connection_lost"
        self.done.set_result(exc)


async def send_all(sock, data, end=True):
    await asyncio.to_thread(sock.sendall, data)
    if end:
        sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 65536, 1_000_000])
def test_buffers_of_any_size(run, wire, size):
    async def main():
        ours, theirs = pair(wire)
        data = pattern(min(size * 500, 600_000))
        sending = asyncio.create_task(send_all(theirs, data))
        a = await accept_end(ours, Buffered(lambda: bytearray(size)))
        assert await a.done is None
        await sending
        assert a.data == data
        assert a.got_eof
        assert max(a.sizes) <= size
        theirs.close()

    run(main)


def test_buffers_of_varied_sizes(run, wire):
    async def main():
        sizes = iter([1, 3, 100_000, 2, 5000] * 10_000)
        ours, theirs = pair(wire)
        data = pattern(2_000_000)
        sending = asyncio.create_task(send_all(theirs, data))
        a = await open_end(ours, Buffered(lambda: bytearray(next(sizes))))
        assert await a.done is None
        await sending
        assert a.data == data
        theirs.close()

    run(main)


def test_one_buffer_used_again_and_parts_of_it(run, wire):
    async def main():
        whole = bytearray(10_000)
        views = [memoryview(whole), memoryview(whole)[100:200], memoryview(whole)[-1:]]
        turn = iter(range(1 << 30))
        ours, theirs = pair(wire)
        data = pattern(500_000)
        sending = asyncio.create_task(send_all(theirs, data))
        a = await open_end(ours, Buffered(lambda: views[next(turn) % 3]))
        assert await a.done is None
        await sending
        assert a.data == data
        theirs.close()

    run(main)


def test_buffers_of_other_kinds(run, wire):
    async def main():
        makers = [
            lambda: bytearray(100),
            lambda: memoryview(bytearray(100)),
            lambda: array.array("B", bytes(100)),
            lambda: memoryview(bytearray(100)).cast("B", (10, 10)),
        ]
        turn = iter(range(1 << 30))
        ours, theirs = pair(wire)
        data = pattern(20_000)
        sending = asyncio.create_task(send_all(theirs, data))
        a = await open_end(ours, Buffered(lambda: makers[next(turn) % 4]()))
        assert await a.done is None
        await sending
        assert a.data == data
        theirs.close()

    run(main)


def test_a_buffer_may_be_resized_in_buffer_updated(run, wire):
    """The loop holds no view of it any more."""

    class Resizing(Buffered):
        def buffer_updated(self, nbytes):
            self.data += self.buffer[:nbytes]
            self.buffer.clear()
            self.buffer += bytes(50)

    async def main():
        kept = bytearray(50)
        ours, theirs = pair(wire)
        a = await open_end(ours, Resizing(lambda: kept))
        await send_all(theirs, pattern(5_000))
        assert await a.done is None
        assert a.data == pattern(5_000)
        theirs.close()

    run(main)


def test_a_buffer_released_in_buffer_updated(run, wire):
    class Releasing(Buffered):
        def buffer_updated(self, nbytes):
            self.data += self.buffer[:nbytes]
            self.buffer.release()

    async def main():
        kept = bytearray(50)
        ours, theirs = pair(wire)
        a = await open_end(ours, Releasing(lambda: memoryview(kept)))
        await send_all(theirs, pattern(5_000))
        assert await a.done is None
        assert a.data == pattern(5_000)
        a.buffer.release()  # the one that was given for the end
        kept.clear()
        theirs.close()

    run(main)


@pytest.mark.parametrize(
    ("make", "errors"),
    [
        (lambda: bytearray(), RuntimeError),
        (lambda: memoryview(b""), (RuntimeError, TypeError)),
        (lambda: b"read only", (TypeError, BufferError)),
        (lambda: None, TypeError),
        (lambda: "text", (TypeError, RuntimeError)),
        (lambda: 5, TypeError),
        (lambda: 1 / 0, ZeroDivisionError),
    ],
    ids=["empty", "empty view", "read only", "none", "text", "number", "raises"],
)
def test_a_wrong_buffer_ends_the_connection(run, trouble, wire, make, errors):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Buffered(make))
        theirs.sendall(b"data")
        assert isinstance(await a.done, errors)
        assert not a.sizes
        assert not a.got_eof
        for _ in range(3):
            await asyncio.sleep(0)
        assert ours.fileno() == -1
        theirs.close()

    run(main)
    [context] = trouble.take()
    assert isinstance(context["exception"], errors)


def test_a_buffer_with_gaps_ends_the_connection(run, trouble, wire):
    async def main():
        a = await open_end(ours, Buffered(lambda: memoryview(bytearray(100))[::2]))
        try:
            theirs.sendall(b"data")
            async with asyncio.timeout(2):
                assert isinstance(await a.done, (BufferError, ValueError, TypeError))
        finally:
            a.transport.abort()

    ours, theirs = pair(wire)
    with ours, theirs:
        run(main)
    assert len(trouble.take()) == 1


BACKWARDS = """
import asyncio, socket, sys
from tests.engine.loops import new_loop

class Backwards(asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        return memoryview(bytearray(64))[::-1]  # its address is that of its last byte

    def buffer_updated(self, nbytes):
        print("received", nbytes)
        lost.append(None)

    def connection_lost(self, exc):
        lost.append(exc)
        print(type(exc).__name__)

lost = []

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(Backwards, sock=ours)
    theirs.send(b"A" * 64)
    while not lost:
        await asyncio.sleep(0.001)
    theirs.close()

asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])).run(main())
"""


def test_nothing_is_written_past_the_end_of_a_buffer(program):
    done = program(BACKWARDS, interpreter=("-X", "dev"), env={"PYTHONWARNINGS": "ignore"})
    assert done.stdout.strip() in ("BufferError", "ValueError", "TypeError"), done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["get_buffer", "buffer_updated", "eof_received"])
def test_an_error_in_a_callback_ends_the_connection(run, trouble, wire, name):
    class Failing(Buffered):
        pass

    def fail(self, *args):
        raise ValueError("mine")

    setattr(Failing, name, fail)

    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Failing())
        await send_all(theirs, b"data", end=name == "eof_received")
        assert isinstance(await a.done, ValueError)
        for _ in range(3):
            await asyncio.sleep(0)
        assert ours.fileno() == -1
        theirs.close()

    run(main)
    [context] = trouble.take()
    assert name in context["message"]


@pytest.mark.parametrize("where", ["get_buffer", "buffer_updated"])
@pytest.mark.parametrize("how", ["close", "abort", "pause_reading"])
def test_acting_from_within_a_callback(run, wire, where, how):
    class Acting(Buffered):
        def get_buffer(self, sizehint):
            if where == "get_buffer" and not self.hints:
                getattr(self.transport, how)()
            return super().get_buffer(sizehint)

        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            if where == "buffer_updated" and len(self.sizes) == 1:
                getattr(self.transport, how)()

    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Acting(lambda: bytearray(10)))
        await send_all(theirs, pattern(100), end=False)
        while not a.hints:
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(a.data) <= 10
        if how == "pause_reading":
            a.transport.resume_reading()
            theirs.shutdown(socket.SHUT_WR)
            assert await a.done is None
            assert a.data == pattern(100)
        else:
            assert await a.done is None
        theirs.close()

    run(main)


def test_a_reset(run):
    async def main():
        ours, theirs = pair("tcp")
        a = await open_end(ours, Buffered())
        reset(theirs)
        assert isinstance(await a.done, ConnectionResetError)
        assert not a.got_eof

    run(main)


class Switching(Recorder):
    """A plain protocol that hands over to a buffered one after each piece, and back."""

    def __init__(self, whole, transport=None):
        super().__init__()
        self.whole = whole
        self.transport = transport
        self.done = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.whole += data
        self.transport.set_protocol(SwitchingBuffered(self))

    def eof_received(self):
        pass

    def connection_lost(self, exc):
        self.done.set_result(exc)


class SwitchingBuffered(asyncio.BufferedProtocol):
    def __init__(self, plain):
        self.plain = plain
        self.buffer = bytearray(777)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.plain.whole += self.buffer[:nbytes]
        self.plain.transport.set_protocol(self.plain)

    def eof_received(self):
        pass

    def connection_lost(self, exc):
        self.plain.connection_lost(exc)


def test_changing_between_kinds_of_protocol_loses_nothing(run, wire):
    async def main():
        ours, theirs = pair(wire)
        whole = bytearray()
        data = pattern(3_000_000)
        sending = asyncio.create_task(send_all(theirs, data))
        a = await open_end(ours, Switching(whole))
        assert await a.done is None
        await sending
        assert whole == data
        theirs.close()

    run(main)


def test_set_protocol_and_get_protocol(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a, b, c = await open_end(ours, Recorder()), Recorder(), Recorder()
        transport = a.transport
        assert transport.get_protocol() is a
        theirs.sendall(b"to a")
        await a.received(4)
        b.connection_made(transport)
        transport.set_protocol(b)
        assert transport.get_protocol() is b
        theirs.sendall(b"to b")
        await b.received(4)
        c.connection_made(transport)
        transport.set_protocol(c)
        theirs.close()
        assert await c.lost() is None
        assert (a.data, b.data, c.data) == (b"to a", b"to b", b"")
        assert a.calls == ["connection_made", "data_received"]
        assert b.calls == ["connection_made", "data_received"]
        assert c.calls == ["connection_made", "eof_received", "connection_lost"]

    run(main)


def test_callbacks_set_on_the_protocol_later_are_used(run, wire):
    """A protocol's methods are looked up when they are due, as mocks and wrappers need."""

    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        theirs.sendall(b"one")
        await a.received(3)
        seen = asyncio.get_running_loop().create_future()
        a.data_received = seen.set_result
        theirs.sendall(b"two")
        kind = type(asyncio.get_running_loop()).__module__
        if kind.startswith("asyncio"):
            assert await seen == b"two"
        else:  # bound when the protocol was set is as good: one of the two must get it
            while not seen.done() and len(a.data) < 6:
                await asyncio.sleep(0)
        a.transport.close()
        await a.lost()
        theirs.close()

    run(main)
