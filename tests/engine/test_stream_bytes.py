"""Bytes over stream transports: every one arrives, in order, unchanged, whatever the schedule."""

import array
import asyncio
import contextlib
import hashlib
import socket
import struct
import sys

import pytest

from .wire import (
    Recorder,
    accept_end,
    open_end,
    pair,
    pattern,
    read_exactly,
    read_to_end,
    small_buffers,
)


def test_what_is_written_arrives(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        a.transport.write(b"hello")
        assert await b.received(5) == b"hello"
        b.transport.write(b"and back")
        assert await a.received(8) == b"and back"
        a.transport.close()
        assert await b.lost() is None
        assert await a.lost() is None
        assert a.calls == ["connection_made", "data_received", "connection_lost"]
        assert b.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]

    run(main)


def test_every_size_about_the_powers_of_two(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        sent = bytearray()
        for power in range(21):
            for size in (2**power - 1, 2**power, 2**power + 1):
                chunk = pattern(size, len(sent))
                sent += chunk
                a.transport.write(chunk)
                if power % 3 == 0:
                    await b.received(len(sent))
        assert await b.received(len(sent)) == sent
        a.transport.close()
        await b.lost()

    run(main)


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [b""],
        [b"", b"", b""],
        [b"one"],
        [b"one", b"", bytearray(b"two"), memoryview(b"three")],
        [bytes([n % 256]) for n in range(3000)],  # more than one sendmsg takes (IOV_MAX, 1024)
        [pattern(40_000, n) for n in range(0, 800_000, 10_000)],
        [b"small", bytes(3_000_000), b"small"],
    ],
    ids=["none", "empty", "empties", "one", "kinds", "3000", "80 large", "mixed"],
)
@pytest.mark.parametrize("as_kind", [list, tuple, iter])
def test_writelines(run, wire, kind, chunks, as_kind):
    if kind == "asyncio" and as_kind is iter and not any(chunks):
        pytest.skip("asyncio takes an empty iterator for something to send")

    async def main():
        ours, theirs = pair(wire)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        a.transport.write(b"<")
        a.transport.writelines(as_kind(chunks))
        a.transport.write(b">")
        a.transport.write_eof()
        assert await b.ended() == b"<" + b"".join(chunks) + b">"
        a.transport.close()
        await a.lost()

    run(main)


def test_writes_of_several_kinds_keep_their_order(run, wire):
    async def main():
        ours, theirs = pair(wire)
        small_buffers(ours, theirs)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        sent = bytearray()
        for n in range(300):
            chunk = pattern(n * 7 % 997, n * 1000)
            match n % 5:
                case 0:
                    a.transport.write(chunk)
                case 1:
                    a.transport.write(bytearray(chunk))
                case 2:
                    a.transport.write(memoryview(chunk))
                case 3:
                    a.transport.writelines([chunk[:10], chunk[10:]])
                case 4:
                    a.transport.write(memoryview(b"<<" + chunk)[2:])
            sent += chunk
            if n % 50 == 0:
                await asyncio.sleep(0)
        a.transport.close()
        assert await b.ended() == sent

    run(main)


def test_a_memoryview_of_larger_items_is_written_as_bytes(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        numbers = array.array("I", range(1000))
        a.transport.write(memoryview(numbers))
        assert await b.received(4000) == numbers.tobytes()
        a.transport.close()
        await b.lost()

    run(main)


@pytest.mark.ours("asyncio slices what is left of it by items, not by bytes")
def test_a_large_memoryview_of_larger_items_is_written_as_bytes(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        numbers = array.array("I", range(1_000_000))
        a.transport.write(memoryview(numbers))
        assert await b.received(4_000_000) == numbers.tobytes()
        a.transport.close()
        await b.lost()

    run(main)


def test_a_memoryview_with_gaps_is_refused_or_written_right(run, wire, trouble):
    async def main():
        ours, theirs = pair(wire)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        view = memoryview(pattern(1000))[::3]
        with contextlib.suppress(TypeError, ValueError, BufferError):
            a.transport.write(view)
            a.transport.close()
        a.transport.close()
        assert await b.ended() in (b"", view.tobytes())
        await a.lost()

    run(main)
    trouble.take()


@pytest.mark.parametrize("bad", ["text", None, 5, [1], object()])
def test_what_is_not_bytes_is_refused_and_the_connection_goes_on(run, wire, bad, kind):
    if kind == "asyncio" and sys.version_info >= (3, 14):
        pytest.skip("asyncio's writelines() takes some of them, and is stuck on others")

    async def main():
        ours, theirs = pair(wire)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        with pytest.raises(TypeError):
            a.transport.write(bad)
        with pytest.raises(TypeError):
            a.transport.writelines([b"not sent", bad])
        a.transport.write(b"good")
        a.transport.close()
        data = await b.ended()
        assert data in (b"good", b"not sentgood")

    run(main)


def test_an_empty_write_sends_nothing(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        for empty in (b"", bytearray(), memoryview(b"")):
            a.transport.write(empty)
        a.transport.writelines([])
        await asyncio.sleep(0)
        assert a.transport.get_write_buffer_size() == 0
        a.transport.write(b"x")
        assert await b.received(1) == b"x"
        a.transport.close()
        await a.lost()

    run(main)


# A buffer that its owner changes after write


@pytest.mark.parametrize("size", [10, 5_000, 3_000_000])
@pytest.mark.parametrize("how", ["write", "writelines"])
def test_a_buffer_may_be_changed_right_after_write(run, wire, size, how, kind):
    if kind == "asyncio" and (size > 5_000 or how == "writelines") and sys.version_info >= (3, 12):
        pytest.skip("asyncio keeps a view of what it could not send at once")

    async def main():
        ours, theirs = pair(wire)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        buffer = bytearray(pattern(size))
        if how == "write":
            a.transport.write(buffer)
            a.transport.write(memoryview(buffer))
        else:
            a.transport.writelines([buffer, memoryview(buffer)])
        buffer[:] = bytes(size)
        assert await b.received(2 * size) == pattern(size) * 2
        a.transport.close()
        await a.lost()

    run(main)


@pytest.mark.parametrize("size", [10, 3_000_000])
@pytest.mark.parametrize("how", ["write", "writelines"])
def test_a_buffer_may_be_resized_right_after_write(run, wire, size, how, kind):
    if kind == "asyncio" and sys.version_info >= (3, 12):
        pytest.skip("asyncio keeps a view of what it could not send at once")

    async def main():
        ours, theirs = pair(wire)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        buffer = bytearray(pattern(size))
        if how == "write":
            a.transport.write(buffer)
        else:
            a.transport.writelines([buffer, b"!"])
        buffer.clear()  # BufferError, were a view of it kept
        buffer += b"something else entirely"
        expected = pattern(size) + (b"" if how == "write" else b"!")
        assert await b.received(len(expected)) == expected
        a.transport.close()
        await a.lost()

    run(main)


def test_a_view_may_be_released_right_after_write(run, wire, kind):
    if kind == "asyncio" and sys.version_info >= (3, 12):
        pytest.skip("asyncio keeps the view it was given")

    async def main():
        ours, theirs = pair(wire)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        with memoryview(pattern(2_000_000)) as view:
            a.transport.write(view)
        assert await b.received(2_000_000) == pattern(2_000_000)
        a.transport.close()
        await a.lost()

    run(main)


def test_what_resume_writing_writes_comes_after_the_write_that_led_to_it(run, wire):
    """A write may find room for what was owed, and so resume the protocol: in its midst."""

    async def main():
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        lines = [b"%098d\n" % n for n in range(2_000)]  # more than one flush sends
        late = bytearray(b"written first " * 5_000)
        a = await open_end(
            ours, Recorder(resume_writing=lambda protocol: protocol.transport.write(b"resumed"))
        )
        reading = asyncio.create_task(asyncio.to_thread(read_to_end, theirs))
        a.transport.writelines(lines)
        a.transport.write(late)
        await asyncio.sleep(0)
        a.transport.close()
        expected = b"".join(lines) + late
        assert (await reading)[: len(expected)] == expected
        await a.lost()

    ours, theirs = pair(wire)
    with ours, theirs:
        run(main)


# Large transfers


@pytest.mark.heavy
def test_fifty_megabytes_to_a_slow_reader(run, wire):
    total = 50 << 20

    def read_slowly(sock, digest):
        """Little by little at first, then as fast as may be."""
        count = 0
        while chunk := sock.recv(999 if count < 300_000 else 1 << 18):
            digest.update(chunk)
            count += len(chunk)
        sock.close()
        return count

    async def main():
        ours, theirs = pair(wire)
        small_buffers(theirs)
        digest, sent = hashlib.blake2b(), hashlib.blake2b()
        reading = asyncio.create_task(asyncio.to_thread(read_slowly, theirs, digest))
        _, writer = await asyncio.open_connection(sock=ours)
        block = pattern(1 << 20)
        for n in range(total >> 20):
            chunk = block[n:] + block[:n]
            sent.update(chunk)
            if n % 2:
                writer.write(chunk)
            else:
                writer.writelines([chunk[:100], chunk[100:70_000], chunk[70_000:]])
            await writer.drain()
        writer.close()
        assert await reading == total
        await writer.wait_closed()
        assert digest.digest() == sent.digest()

    run(main)


@pytest.mark.heavy
def test_fifty_megabytes_written_in_one_turn(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        data = pattern(50 << 20)
        reading = asyncio.create_task(asyncio.to_thread(read_to_end, theirs))
        for start in range(0, len(data), 1 << 20):
            a.transport.write(data[start : start + (1 << 20)])
        a.transport.close()
        assert await reading == data
        assert await a.lost() is None
        theirs.close()

    run(main)


@pytest.mark.heavy
def test_fifty_megabytes_received_by_a_protocol_that_pauses(run, wire):
    total = 50 << 20

    def send(sock, data):
        sock.sendall(data)
        sock.close()

    async def main():
        def pause(protocol, data):
            if len(protocol.data) // 500_000 != (len(protocol.data) - len(data)) // 500_000:
                protocol.transport.pause_reading()
                loop.call_later(0.0001, resume)

        def resume():
            b.transport.resume_reading()

        loop = asyncio.get_running_loop()
        ours, theirs = pair(wire)
        data = pattern(total)
        b = await accept_end(ours, Recorder(data_received=pause))
        await asyncio.to_thread(send, theirs, data)
        assert await b.ended() == data
        assert await b.lost() is None

    run(main)


# Random schedules. One that hangs is not shrunk: each try would hang as well.


def test_close_loses_nothing_that_was_written(run, wire):
    """close() right after write, with a reader who has not read a byte yet."""

    async def main():
        for size in (1, 1000, 100_000, 5_000_000):
            ours, theirs = pair(wire)
            a = await open_end(ours, Recorder())
            a.transport.write(pattern(size))
            a.transport.close()
            a.transport.close()
            assert a.transport.is_closing()
            assert await asyncio.to_thread(read_to_end, theirs) == pattern(size)
            assert await a.lost() is None
            theirs.close()

    run(main)


def test_write_eof_loses_nothing_and_leaves_the_other_half_open(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        assert a.transport.can_write_eof() is True
        a.transport.write(pattern(3_000_000))
        a.transport.write_eof()
        a.transport.write_eof()
        assert not a.transport.is_closing()
        assert await asyncio.to_thread(read_to_end, theirs) == pattern(3_000_000)
        theirs.sendall(b"the answer")
        assert await a.received(10) == b"the answer"
        theirs.shutdown(socket.SHUT_WR)
        assert await a.ended() == b"the answer"
        assert await a.lost() is None
        theirs.close()

    run(main)


def test_an_end_received_leaves_writing_open_when_asked(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder(keep_open=True))
        theirs.sendall(b"question")
        theirs.shutdown(socket.SHUT_WR)
        assert await a.ended() == b"question"
        for _ in range(3):
            await asyncio.sleep(0)
        assert not a.lost_with
        a.transport.write(pattern(3_000_000))
        a.transport.close()
        assert await asyncio.to_thread(read_to_end, theirs) == pattern(3_000_000)
        assert await a.lost() is None
        theirs.close()

    run(main)


def test_a_half_closed_connection_waits_without_spinning(run, wire):
    """The end stays readable in the kernel's eyes; the loop must not look at it again and again."""
    import time

    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder(keep_open=True))
        theirs.shutdown(socket.SHUT_WR)
        await a.ended()
        before = time.process_time()
        await asyncio.sleep(0.3)
        spent = time.process_time() - before
        a.transport.close()
        await a.lost()
        theirs.close()
        assert spent < 0.15  # seconds of CPU; one who spins spends all 0.3

    run(main)


# Small writes of a turn leave together


def segments_in(sock):
    """Segments with data that a TCP socket received, from the kernel's struct tcp_info."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("I", info, 152)[0]


@pytest.mark.ours("asyncio sends each write at once")
@pytest.mark.skipif(sys.platform != "linux", reason="struct tcp_info is Linux's")
@pytest.mark.parametrize("how", ["write", "writelines", "both"])
def test_small_writes_of_one_turn_leave_in_one_piece(run, how):
    async def main():
        ours, theirs = pair("tcp")
        a = await open_end(ours, Recorder())
        before = segments_in(theirs)
        for round_number in range(1, 6):
            for n in range(10):
                if how == "write" or (how == "both" and n % 2):
                    a.transport.write(b"%d" % n)
                else:
                    a.transport.writelines([b"%d" % n, b""])
            assert await asyncio.to_thread(read_exactly, theirs, 10) == b"0123456789"
            assert segments_in(theirs) - before == round_number
        a.transport.close()
        await a.lost()
        theirs.close()

    run(main)


@pytest.mark.ours("asyncio sends each write at once")
@pytest.mark.skipif(sys.platform != "linux", reason="struct tcp_info is Linux's")
def test_replies_to_a_batch_of_requests_leave_in_one_piece(run):
    """What data_received writes belongs to the turn it was called in."""

    async def main():
        def reply(protocol, data):
            for byte in data:
                protocol.transport.write(bytes([byte + 1]))

        ours, theirs = pair("tcp")
        a = await open_end(ours, Recorder(data_received=reply))
        before = segments_in(theirs)
        theirs.sendall(b"ABCDEFGH")
        assert await asyncio.to_thread(read_exactly, theirs, 8) == b"BCDEFGHI"
        assert segments_in(theirs) - before == 1
        a.transport.close()
        await a.lost()
        theirs.close()

    run(main)


def test_a_write_leaves_even_if_the_loop_is_stopped_in_that_turn(loop, wire):
    """Nothing written is left behind in a buffer when the run ends."""
    ours, theirs = pair(wire)
    a = loop.run_until_complete(open_end_on(loop, ours))

    def write_and_stop():
        a.transport.write(b"before the stop")
        loop.stop()

    loop.call_soon(write_and_stop)
    loop.run_forever()
    assert theirs.recv(100) == b"before the stop"
    a.transport.close()
    loop.run_until_complete(a.lost())
    theirs.close()


def test_a_write_between_runs_leaves_at_the_next(loop, wire):
    ours, theirs = pair(wire)
    a = loop.run_until_complete(open_end_on(loop, ours))
    a.transport.write(b"between runs")
    loop.stop()
    loop.run_forever()
    assert theirs.recv(100) == b"between runs"
    a.transport.close()
    loop.run_until_complete(a.lost())
    theirs.close()


async def open_end_on(loop, sock):
    return await open_end(sock, Recorder())
