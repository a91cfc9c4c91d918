"""Flow control of stream transports: water marks, pauses of reading, and what memory they bound."""

import asyncio
import socket
import time

import pytest

from .wire import Recorder, accept_end, open_end, pair, pattern, read_exactly, read_to_end, reset


def fill(protocol, chunk=bytes(65536)):
    """Write as one who honours pause_writing; the bytes written."""
    written = 0
    while not protocol.paused:
        protocol.transport.write(chunk)
        written += len(chunk)
        assert written < 1 << 28, "a peer that does not read, and no pause_writing"
    return written


def test_the_default_marks(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        assert a.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        assert a.transport.get_write_buffer_size() == 0
        a.transport.close()
        await a.lost()
        theirs.close()

    run(main)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, (16384, 65536)),
        ({"high": 1000}, (250, 1000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 10, "low": 5}, (5, 10)),
        ({"high": 5, "low": 5}, (5, 5)),
        ({"high": 0}, (0, 0)),
        ({"high": 1 << 40, "low": 1 << 39}, (1 << 39, 1 << 40)),
    ],
    ids=str,
)
def test_marks_may_be_set(run, wire, given, limits):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        a.transport.set_write_buffer_limits(**given)
        assert a.transport.get_write_buffer_limits() == limits
        for bad in ({"high": 1, "low": 2}, {"high": -1}, {"low": -1}):
            with pytest.raises(ValueError, match="must be >="):
                a.transport.set_write_buffer_limits(**bad)
        assert a.transport.get_write_buffer_limits() == limits
        a.transport.close()
        await a.lost()
        theirs.close()

    run(main)


@pytest.mark.parametrize("high", [0, 1, 1000, 65536, 1_000_000])
def test_writing_is_paused_above_the_high_mark_and_resumed_at_the_low(run, wire, high):
    async def main():
        sizes = {}

        def paused(protocol):
            sizes["paused"] = protocol.transport.get_write_buffer_size()

        def resumed(protocol):
            sizes["resumed"] = protocol.transport.get_write_buffer_size()

        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder(pause_writing=paused, resume_writing=resumed))
        a.transport.set_write_buffer_limits(high=high)
        low = high // 4
        for round_number in range(1, 4):
            written = fill(a, bytes(65536))
            assert a.pauses == round_number
            assert high < sizes["paused"] <= high + 65536
            assert not any(call == "resume_writing" for call in a.calls[2 * round_number :])
            await asyncio.to_thread(read_exactly, theirs, written)
            await a.until(lambda: not a.paused)
            assert sizes["resumed"] <= low
        a.transport.close()
        await a.lost()
        theirs.close()

    run(main)


def test_exactly_the_high_mark_is_no_reason_to_pause(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        a.transport.set_write_buffer_limits(high=1 << 26)
        while not a.transport.get_write_buffer_size():
            a.transport.write(bytes(1 << 20))
            await asyncio.sleep(0)
        size = a.transport.get_write_buffer_size()
        a.transport.set_write_buffer_limits(high=size + 1000)
        a.transport.write(bytes(1000))
        assert not a.paused
        a.transport.write(b"x")
        assert a.paused
        a.transport.abort()
        await a.lost()
        theirs.close()

    run(main)


def test_marks_set_lower_count_from_the_next_write(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        a.transport.set_write_buffer_limits(high=1 << 26)
        while not a.transport.get_write_buffer_size():
            a.transport.write(bytes(1 << 20))
            await asyncio.sleep(0)
        a.transport.set_write_buffer_limits(high=0)
        a.transport.write(b"x")
        assert a.paused
        a.transport.abort()
        await a.lost()
        theirs.close()

    run(main)


def test_a_peer_that_never_reads_keeps_the_buffer_at_the_mark(run, wire):
    """One who honours pause_writing is never owed more than the mark and one write."""

    async def main():
        ours, theirs = pair(wire)
        reader, writer = await asyncio.open_connection(sock=ours)
        largest = 0

        async def write():
            nonlocal largest
            while True:
                writer.write(bytes(30_000))
                largest = max(largest, writer.transport.get_write_buffer_size())
                await writer.drain()

        writing = asyncio.create_task(write())
        while not writer.transport.get_write_buffer_size() > 65536:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not writing.done()
        assert largest <= 65536 + 30_000
        writing.cancel()
        writer.transport.abort()
        assert await reader.read() == b""
        theirs.close()

    run(main)


def test_an_end_with_a_full_buffer_waits_for_the_reader(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        written = fill(a)
        a.transport.write_eof()
        with pytest.raises(RuntimeError, match="Cannot call write"):
            a.transport.write(b"late")
        assert len(await asyncio.to_thread(read_to_end, theirs)) == written
        await a.until(lambda: not a.paused)
        theirs.close()
        await a.lost()

    run(main)


def test_closing_with_a_full_buffer_waits_for_the_reader(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        written = fill(a)
        a.transport.close()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not a.lost_with
        assert len(await asyncio.to_thread(read_to_end, theirs)) == written
        assert await a.lost() is None
        theirs.close()

    run(main)


def test_abort_with_a_full_buffer_waits_for_nobody(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        written = fill(a)
        a.transport.abort()
        assert a.transport.is_closing()
        assert not a.lost_with, "connection_lost must not be called from within abort"
        assert await a.lost() is None
        try:
            assert len(await asyncio.to_thread(read_to_end, theirs)) < written
        except ConnectionResetError:
            pass
        theirs.close()

    run(main)


def test_the_peer_goes_while_writing_is_paused(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        fill(a)
        reset(theirs)
        assert isinstance(await a.lost(), OSError)
        assert a.transport.get_write_buffer_size() == 0

    run(main)


# Pauses of reading


def test_pause_and_resume_of_reading(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        assert a.transport.is_reading()
        a.transport.pause_reading()
        a.transport.pause_reading()
        assert not a.transport.is_reading()
        theirs.sendall(b"waits")
        for _ in range(10):
            await asyncio.sleep(0)
        assert not a.data
        a.transport.resume_reading()
        a.transport.resume_reading()
        assert a.transport.is_reading()
        assert await a.received(5) == b"waits"
        a.transport.close()
        assert not a.transport.is_reading()
        a.transport.pause_reading()
        a.transport.resume_reading()
        await a.lost()
        theirs.close()

    run(main)


def test_no_data_comes_after_pause_reading_in_data_received(run, wire):
    async def main():
        def pause(protocol, data):
            sizes.append(len(data))
            protocol.transport.pause_reading()

        sizes = []
        ours, theirs = pair(wire)
        a = await accept_end(ours, Recorder(data_received=pause))
        data = pattern(2_000_000)
        sending = asyncio.create_task(asyncio.to_thread(theirs.sendall, data))
        while len(a.data) < len(data):
            calls = len(sizes)
            await a.until(lambda: len(sizes) > calls)  # noqa: B023
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(sizes) == calls + 1
            a.transport.resume_reading()
        await sending
        assert a.data == data
        a.transport.close()
        await a.lost()
        theirs.close()

    run(main)


def test_pause_in_connection_made_holds_back_the_first_data(run, wire):
    async def main():
        ours, theirs = pair(wire)
        theirs.sendall(b"there already")
        a = await open_end(
            ours, Recorder(connection_made=lambda protocol: protocol.transport.pause_reading())
        )
        for _ in range(10):
            await asyncio.sleep(0)
        assert not a.data
        a.transport.resume_reading()
        assert await a.received(13) == b"there already"
        a.transport.close()
        await a.lost()
        theirs.close()

    run(main)


@pytest.mark.parametrize("how", ["end", "close", "reset"])
def test_a_pause_holds_back_the_end_too_and_does_not_spin(run, wire, how):
    """The kernel reports hang-ups and errors unasked; a paused connection sleeps all the same."""

    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        a.transport.pause_reading()
        theirs.sendall(b"the last words")
        if how == "end":
            theirs.shutdown(socket.SHUT_WR)
        elif how == "close":
            theirs.close()
        else:
            reset(theirs)
        before = time.process_time()
        await asyncio.sleep(0.3)
        spent = time.process_time() - before
        assert spent < 0.15, "seconds of CPU in 0.3 s of sleep: it spins"
        assert not a.data
        if not a.lost_with:
            a.transport.resume_reading()
        await a.lost()
        if how != "reset":
            assert a.data == b"the last words"
        theirs.close()

    run(main)


def test_resume_within_the_turn_of_the_pause(run, wire):
    async def main():
        def again(protocol, data):
            protocol.transport.pause_reading()
            protocol.transport.resume_reading()

        ours, theirs = pair(wire)
        a = await accept_end(ours, Recorder(data_received=again))
        await asyncio.to_thread(theirs.sendall, pattern(100_000))
        theirs.close()
        assert await a.ended() == pattern(100_000)

    run(main)


def test_one_that_never_stops_sending_does_not_starve_the_others(run):
    """A connection with always more to read gets its share of a turn and no more."""

    async def main():
        ours, theirs = pair("tcp")
        a = await open_end(ours, Recorder(data_received=lambda protocol, data: drop(protocol)))
        quiet, quiet_peer = pair("tcp")
        b = await open_end(quiet, Recorder())
        over = []

        def drop(protocol):
            protocol.data.clear()

        def flood():
            block = bytes(1 << 20)
            while not over:
                try:
                    theirs.sendall(block)
                except OSError:
                    break

        flooding = asyncio.create_task(asyncio.to_thread(flood))
        for n in range(1, 101):
            quiet_peer.sendall(b"x")
            await b.received(n)
        over.append(True)
        a.transport.abort()
        b.transport.close()
        await flooding
        await b.lost()
        theirs.close()
        quiet_peer.close()

    run(main)


@pytest.mark.heavy
def test_paused_writers_to_many_idle_readers_do_not_grow(run):
    """A hundred peers that never read: the memory is bounded by the marks, however long it goes."""

    async def main():
        ends = []
        for _ in range(100):
            ours, theirs = pair("unix")
            ends.append((await open_end(ours, Recorder()), theirs))
        for _ in range(50):
            for protocol, _ in ends:
                if not protocol.paused:
                    protocol.transport.write(bytes(10_000))
            await asyncio.sleep(0)
        assert all(protocol.paused for protocol, _ in ends)
        owed = [protocol.transport.get_write_buffer_size() for protocol, _ in ends]
        assert max(owed) <= 65536 + 10_000
        for protocol, theirs in ends:
            protocol.transport.abort()
            await protocol.lost()
            theirs.close()

    run(main)
