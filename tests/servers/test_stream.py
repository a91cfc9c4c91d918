"""The handler API over real sockets: bytes, ends, limits, back-pressure, cancellation."""

import asyncio
import hashlib
import os
import pickle
import random
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neverblock import errors
from neverblock.servers import Stream
from neverblock.servers.handler import HIGH_WATER
from tests.servers.conftest import Run
from tests.servers.serving import received, reset, serving


class Recorder:
    """A handler that runs ``body`` and hands its outcome to the test."""

    def __init__(self, body):
        self.body = body
        self.stream: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        self.outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def __call__(self, stream: Stream) -> None:
        self.stream.set_result(stream)
        try:
            self.outcome.set_result(await self.body(stream))
        except BaseException as error:
            self.outcome.set_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise


async def echo(stream: Stream) -> None:
    async for chunk in stream:
        await stream.send(chunk)


def test_bytes_come_back_in_order(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        sent = random.Random(7).randbytes(3_000_000)
        async with serving(echo) as at:
            with await at.connect() as client:
                answer = asyncio.ensure_future(received(client))
                await loop.sock_sendall(client, sent)
                client.shutdown(socket.SHUT_WR)
                assert hashlib.sha256(await answer).digest() == hashlib.sha256(sent).digest()

    run(main())


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=400), max_size=12),
    asks=st.lists(
        st.one_of(
            st.tuples(st.just("receive"), st.integers(1, 300)),
            st.tuples(st.just("receive_exactly"), st.integers(0, 300)),
            st.tuples(st.just("receive_until"), st.binary(min_size=1, max_size=3)),
        ),
        min_size=1,
        max_size=20,
    ),
)
@settings(max_examples=150, deadline=None)
def test_every_way_to_receive_gives_the_bytes_sent(pieces, asks) -> None:
    whole = b"".join(pieces)

    async def read(stream: Stream) -> list[tuple[str, object, bytes]]:
        parts = []
        for kind, argument in asks:
            try:
                parts.append((kind, argument, await getattr(stream, kind)(argument)))
            except errors.IncompleteReceiveError as error:
                parts.append(("rest", None, error.partial))
                assert await stream.receive() == b""
        parts += [("receive", 65536, chunk) async for chunk in stream]
        return parts

    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder(read)
        async with serving(recorder) as at:
            with await at.connect() as client:
                for piece in pieces:
                    await loop.sock_sendall(client, piece)
                    await asyncio.sleep(0)
                client.shutdown(socket.SHUT_WR)
                parts = await recorder.outcome
        assert b"".join(data for *_, data in parts) == whole
        for kind, argument, data in parts:
            if kind == "receive":
                assert len(data) <= argument
            elif kind == "receive_exactly":
                assert len(data) == argument
            elif kind == "receive_until":
                assert data.find(argument) == len(data) - len(argument)

    asyncio.run(main())


def test_lines_need_no_more_than_their_own_length(run: Run) -> None:
    async def lines(stream: Stream) -> list[bytes]:
        return [await stream.receive_until(b"\r\n", 5) for _ in range(3)]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder(lines)
        async with serving(recorder) as at:
            with await at.connect() as client:
                await loop.sock_sendall(client, b"one\r\ntwo\r\n\r\n")
                assert await recorder.outcome == [b"one\r\n", b"two\r\n", b"\r\n"]

    run(main())


def test_a_delimiter_past_the_limit_consumes_nothing(run: Run) -> None:
    async def body(stream: Stream) -> bytes:
        with pytest.raises(errors.LimitExceededError, match=r"no b'\\n' within 8 bytes.*max_bytes"):
            await stream.receive_until(b"\n", 8)
        return await stream.receive_until(b"\n", 9)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder(body)
        async with serving(recorder) as at:
            with await at.connect() as client:
                await loop.sock_sendall(client, b"12345678\n")
                assert await recorder.outcome == b"12345678\n"

    run(main())


def test_the_end_stays_the_end(run: Run) -> None:
    async def body(stream: Stream) -> None:
        assert await stream.receive() == b"last words"
        for _ in range(3):
            assert await stream.receive() == b""
        with pytest.raises(errors.IncompleteReceiveError) as caught:
            await stream.receive_exactly(4)
        assert caught.value.partial == b""
        assert await stream.receive_exactly(0) == b""
        await stream.send(b"heard you")  # The other half is still open.

    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder(body)
        async with serving(recorder) as at:
            with await at.connect() as client:
                await loop.sock_sendall(client, b"last words")
                client.shutdown(socket.SHUT_WR)
                assert await received(client) == b"heard you"
        await recorder.outcome

    run(main())


def test_an_incomplete_receive_hands_over_what_came(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder(lambda stream: stream.receive_exactly(10))
        async with serving(recorder) as at:
            with await at.connect() as client:
                await loop.sock_sendall(client, b"1234")
                client.shutdown(socket.SHUT_WR)
                with pytest.raises(EOFError, match="4 bytes while waiting for 10 bytes") as caught:
                    await recorder.outcome
                assert caught.value.partial == b"1234"

    run(main())


def test_send_eof_leaves_receiving_open(run: Run) -> None:
    async def body(stream: Stream) -> bytes:
        await stream.send(b"that was all")
        await stream.send_eof()
        await stream.send_eof()
        with pytest.raises(errors.StreamClosedError, match=r"send_eof\(\) was called"):
            await stream.send(b"more")
        return await stream.receive()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder(body)
        async with serving(recorder) as at:
            with await at.connect() as client:
                assert await received(client) == b"that was all"
                await loop.sock_sendall(client, b"and this")
                assert await recorder.outcome == b"and this"

    run(main())


def test_aclose_sends_what_is_queued(run: Run) -> None:
    big = os.urandom(2_000_000)

    async def body(stream: Stream) -> None:
        await stream.send(big)
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(errors.StreamClosedError, match=r"aclose\(\) was called"):
            await stream.send(b"more")
        with pytest.raises(errors.StreamClosedError, match=r"aclose\(\) was called"):
            await stream.receive()

    async def main() -> None:
        recorder = Recorder(body)
        async with serving(recorder) as at:
            with await at.connect() as client:
                assert await received(client) == big
                await recorder.outcome
            await at.server.wait_idle()

    run(main())


def test_aclose_wakes_those_who_wait(run: Run) -> None:
    async def body(stream: Stream) -> list[object]:
        receiver = asyncio.ensure_future(stream.receive())
        sender = asyncio.ensure_future(send_forever(stream))
        while not stream._choked:
            await asyncio.sleep(0)
        closer = asyncio.ensure_future(stream.aclose())
        result = await asyncio.gather(receiver, return_exceptions=True)
        # The peer does not read, so the queue cannot leave: the impatient cancel.
        closer.cancel()
        return result + await asyncio.gather(sender, closer, return_exceptions=True)

    async def main() -> None:
        recorder = Recorder(body)
        async with serving(recorder) as at:
            with await at.connect():
                receiver, sender, closer = await recorder.outcome
        assert isinstance(receiver, errors.StreamClosedError)
        assert isinstance(sender, errors.StreamClosedError)
        assert isinstance(closer, asyncio.CancelledError)

    run(main())


async def send_forever(stream: Stream) -> None:
    while True:
        await stream.send(bytes(65536))
        await asyncio.sleep(0)


def test_one_task_receives_at_a_time(run: Run) -> None:
    async def body(stream: Stream) -> bytes:
        first = asyncio.ensure_future(stream.receive())
        await asyncio.sleep(0)
        with pytest.raises(errors.StreamBusyError, match="receive in one task"):
            await stream.receive_exactly(1)
        await stream.send(b"go")
        return await first

    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder(body)
        async with serving(recorder) as at:
            with await at.connect() as client:
                assert await loop.sock_recv(client, 10) == b"go"
                await loop.sock_sendall(client, b"once")
                assert await recorder.outcome == b"once"

    run(main())


def test_a_cancelled_receive_loses_nothing(run: Run) -> None:
    """Cancelled before the data, with the data in the same turn, and half-way through a message."""

    async def body(stream: Stream) -> bytes:
        for step in range(40):
            task = asyncio.ensure_future(stream.receive_exactly(1 + step % 3))
            await asyncio.sleep(0)
            await stream.send(b"?")
            for _ in range(step % 7):
                await asyncio.sleep(0)
            task.cancel()
            try:
                got.extend(await task)
            except asyncio.CancelledError:
                pass
        while len(got) < 40:
            got.extend(await stream.receive())
        return bytes(got)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder(body)
        async with serving(recorder) as at:
            with await at.connect() as client:
                sent = 0
                while sent < 40:
                    for _ in await loop.sock_recv(client, 100):
                        await loop.sock_sendall(client, bytes([sent]))
                        sent += 1
                assert await recorder.outcome == bytes(range(40))

    got = bytearray()
    run(main())


def test_a_client_that_floods_is_held_back(run: Run) -> None:
    total = 40_000_000

    async def body(stream: Stream) -> int:
        await go.wait()
        assert len(stream._held) <= HIGH_WATER + 256 * 1024
        count = 0
        async for chunk in stream:
            count += len(chunk)
        return count

    async def main() -> None:
        nonlocal go
        go = asyncio.Event()
        loop = asyncio.get_running_loop()
        recorder = Recorder(body)
        async with serving(recorder) as at:
            with await at.connect() as client:
                flood = asyncio.ensure_future(loop.sock_sendall(client, bytes(total)))
                stream = await recorder.stream
                while not stream._paused:
                    await asyncio.sleep(0)
                assert not flood.done()
                go.set()
                await flood
                client.shutdown(socket.SHUT_WR)
                assert await recorder.outcome == total

    go: asyncio.Event
    run(main())


def test_a_message_larger_than_the_high_water_mark_is_received(run: Run) -> None:
    message = random.Random(1).randbytes(HIGH_WATER * 5)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder(lambda stream: stream.receive_exactly(len(message)))
        async with serving(recorder) as at:
            with await at.connect() as client:
                await loop.sock_sendall(client, message + b"rest")
                assert await recorder.outcome == message

    run(main())


def test_a_client_that_does_not_read_stops_the_sender(run: Run) -> None:
    async def body(stream: Stream) -> int:
        sends = 0
        while True:
            try:
                async with asyncio.timeout(0.1 if stream._choked else None):
                    await stream.send(bytes([sends % 256]) * 65536)
            except TimeoutError:
                break
            sends += 1
        await stream.aclose()
        return sends

    async def main() -> None:
        recorder = Recorder(body)
        async with serving(recorder) as at:
            with await at.connect() as client:
                stream = await recorder.stream
                while not stream._closed:
                    await asyncio.sleep(0.01)
                data = await received(client)
                sends = await recorder.outcome
        # The one that was cancelled sent nothing, those before it all they had.
        assert data == b"".join(bytes([n % 256]) * 65536 for n in range(sends))

    run(main())


def test_sends_of_several_tasks_stay_whole(run: Run) -> None:
    size = 50_000

    async def body(stream: Stream) -> None:
        async def sender(letter: int) -> None:
            for _ in range(20):
                await stream.send(bytes([letter]) * size)

        await asyncio.gather(*(sender(letter) for letter in b"abcd"))

    async def main() -> None:
        recorder = Recorder(body)
        async with serving(recorder) as at:
            with await at.connect() as client:
                data = await received(client)
        blocks = {data[n : n + size] for n in range(0, len(data), size)}
        assert blocks == {bytes([letter]) * size for letter in b"abcd"}
        assert len(data) == 4 * 20 * size

    run(main())


def test_a_reset_is_an_error_of_its_own_and_no_noise(run: Run, caplog) -> None:
    async def body(stream: Stream) -> None:
        assert await stream.receive_exactly(5) == b"hello"
        await stream.send(b"go")
        while True:
            await stream.receive()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving(body) as at:
            client = await at.connect()
            await loop.sock_sendall(client, b"hello")
            assert await loop.sock_recv(client, 10) == b"go"
            reset(client)
            await at.server.wait_idle()

    with caplog.at_level("DEBUG", "neverblock.server"):
        run(main())
    (record,) = [record for record in caplog.records if record.name == "neverblock.server"]
    assert record.levelname == "DEBUG"
    assert "lost" in record.getMessage()


def test_after_a_reset_every_call_says_so(run: Run) -> None:
    async def body(stream: Stream) -> None:
        with pytest.raises(errors.ConnectionLostError, match=r"with 127.0.0.1:\d+ lost"):
            while True:
                await stream.receive()
        for call in (stream.receive(), stream.send(b"x"), stream.send_eof()):
            with pytest.raises(ConnectionError):
                await call
        await stream.aclose()

    async def main() -> None:
        recorder = Recorder(body)
        async with serving(recorder) as at:
            client = await at.connect()
            await recorder.stream
            reset(client)
            await recorder.outcome

    run(main())


def test_what_came_before_a_reset_is_still_received(run: Run) -> None:
    async def body(stream: Stream) -> bytes:
        await gone.wait()
        return await stream.receive_exactly(9)

    async def main() -> None:
        nonlocal gone
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        recorder = Recorder(body)
        async with serving(recorder) as at:
            client = await at.connect()
            await loop.sock_sendall(client, b"last will")
            stream = await recorder.stream
            while not stream._held:
                await asyncio.sleep(0)
            reset(client)
            while not stream._gone:
                await asyncio.sleep(0)
            gone.set()
            assert await recorder.outcome == b"last will"

    gone: asyncio.Event
    run(main())


def test_what_is_known_of_a_tcp_connection(run: Run) -> None:
    async def body(stream: Stream) -> tuple[object, ...]:
        assert stream.peer == stream.info.peer
        return stream.info

    async def main() -> None:
        for url in ("tcp://127.0.0.1:0", "tcp://[::1]:0"):
            recorder = Recorder(body)
            async with serving(recorder, url) as at:
                with await at.connect() as client:
                    info = await recorder.outcome
                    host, port = client.getsockname()[:2]
            host = f"[{host}]" if ":" in host else host
            assert info.scheme == "tcp"
            assert info.peer == f"{host}:{port}"
            assert f"tcp://{info.local}" == at.url
            assert info.model == "loop"
            assert info.backend

    run(main())


def test_small_messages_leave_at_once(run: Run) -> None:
    async def body(stream: Stream) -> int:
        sock = stream._transport.get_extra_info("socket")
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    async def main() -> None:
        recorder = Recorder(body)
        async with serving(recorder) as at:
            with await at.connect():
                assert await recorder.outcome == 1

    run(main())


def test_what_is_known_of_a_unix_connection(run: Run, tmp_path) -> None:
    async def body(stream: Stream) -> object:
        return stream.info

    async def main() -> None:
        recorder = Recorder(body)
        path = tmp_path / "socket"
        async with serving(recorder, f"unix://{path}") as at:
            with await at.connect():
                info = await recorder.outcome
        assert (info.scheme, info.local) == ("unix", str(path))
        assert info.peer == f"unix (pid {os.getpid()})"

    run(main())


def test_wrong_arguments_are_refused_at_once(run: Run) -> None:
    async def body(stream: Stream) -> None:
        for call in (
            stream.receive(0),
            stream.receive_exactly(-1),
            stream.receive_until(b""),
        ):
            with pytest.raises(ValueError, match="must"):
                await call
        with pytest.raises(TypeError):
            await stream.send("text")

    async def main() -> None:
        recorder = Recorder(body)
        async with serving(recorder) as at:
            with await at.connect():
                await recorder.outcome

    run(main())


@pytest.mark.parametrize(
    "error",
    [
        errors.BindError("tcp://x:1", "no", 98),
        errors.ConnectionLostError("peer", "reset"),
        errors.IncompleteReceiveError(b"ab", "4 bytes"),
        errors.LimitExceededError(b"\n", 8),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
