"""Files over transports and sockets: what is written around them keeps its place."""

import asyncio
import os
import socket

import pytest

from .wire import Recorder, open_end, pair, pattern, read_exactly, read_to_end, reset

CONTENT = pattern(3_000_000)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        yield file


@pytest.mark.parametrize("before", [0, 10, 200_000])
def test_a_file_keeps_its_place_among_writes(run, wire, file, before):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        reading = asyncio.create_task(asyncio.to_thread(read_to_end, theirs))
        a.transport.write(bytes(before))
        assert await loop.sendfile(a.transport, file) == len(CONTENT)
        assert file.tell() == len(CONTENT)
        a.transport.write(b"after")
        a.transport.write(b"wards")
        file.seek(0)
        assert await loop.sendfile(a.transport, file, 1000, 5000) == 5000
        assert file.tell() == 6000
        a.transport.writelines([b"the", b" end"])
        a.transport.close()
        expected = bytes(before) + CONTENT + b"afterwards" + CONTENT[1000:6000] + b"the end"
        assert await reading == expected
        await a.lost()
        theirs.close()

    run(main)


@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (0, None, CONTENT),
        (0, 1, CONTENT[:1]),
        (2_999_999, None, CONTENT[-1:]),
        (2_999_990, 100, CONTENT[-10:]),
        (3_000_000, None, b""),
        (4_000_000, None, b""),
        (0, 1 << 40, CONTENT),
    ],
)
@pytest.mark.parametrize("fallback", [True, False])
def test_parts_of_a_file(run, file, offset, count, expected, fallback):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair("tcp")
        a = await open_end(ours, Recorder())
        reading = asyncio.create_task(asyncio.to_thread(read_to_end, theirs))
        sent = await loop.sendfile(a.transport, file, offset, count, fallback=fallback)
        assert sent == len(expected)
        a.transport.close()
        assert await reading == expected
        await a.lost()
        theirs.close()

    run(main)


def test_reading_goes_on_while_a_file_is_sent(run, wire, file):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())

        def talk():
            theirs.sendall(b"while you send")
            return read_exactly(theirs, len(CONTENT))

        talking = asyncio.create_task(asyncio.to_thread(talk))
        await loop.sendfile(a.transport, file)
        assert await talking == CONTENT
        theirs.sendall(b", and after")
        assert await a.received(25) == b"while you send, and after"
        a.transport.close()
        await a.lost()
        theirs.close()

    run(main)


def test_a_paused_reader_stays_paused(run, file):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair("tcp")
        a = await open_end(ours, Recorder())
        a.transport.pause_reading()
        theirs.sendall(b"not yet")
        reading = asyncio.create_task(asyncio.to_thread(read_exactly, theirs, len(CONTENT)))
        await loop.sendfile(a.transport, file)
        assert await reading == CONTENT
        for _ in range(3):
            await asyncio.sleep(0)
        assert not a.data
        a.transport.resume_reading()
        assert await a.received(7) == b"not yet"
        a.transport.close()
        await a.lost()
        theirs.close()

    run(main)


def test_misuse(run, file, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair("tcp")
        a = await open_end(ours, Recorder())
        with (tmp_path / "content").open() as text, pytest.raises(ValueError, match="binary"):
            await loop.sock_sendfile(ours, text)
        a.transport.close()
        with pytest.raises(RuntimeError, match="closing"):
            await loop.sendfile(a.transport, file)
        await a.lost()
        theirs.close()

    run(main)


async def send_slowly(file):
    """A transfer under way to a peer that has read a little."""
    ours, theirs = pair("tcp")
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    a = await open_end(ours, Recorder())
    sending = asyncio.create_task(asyncio.get_running_loop().sendfile(a.transport, file))
    await asyncio.to_thread(read_exactly, theirs, 1000)
    assert not sending.done()
    return a, theirs, sending


def test_the_connection_is_reset_while_a_file_is_sent(run, file):
    async def main():
        a, theirs, sending = await send_slowly(file)
        reset(theirs)
        with pytest.raises(ConnectionError):
            await sending
        await a.lost()

    run(main)


@pytest.mark.ours("asyncio waits for ever")
def test_the_transport_is_aborted_while_a_file_is_sent(run, file):
    """The transfer ends with it, and nothing is sent to one who has the number next."""

    async def main():
        a, theirs, sending = await send_slowly(file)
        number = a.transport.get_extra_info("socket").fileno()
        a.transport.abort()
        await a.lost()
        other, other_peer = pair("tcp")
        if other.fileno() != number:
            os.dup2(other.fileno(), number)
        other_peer.setblocking(False)
        try:
            with pytest.raises(ConnectionError):
                async with asyncio.timeout(3):
                    await sending
            with pytest.raises(BlockingIOError):
                other_peer.recv(1)
        finally:
            if other.fileno() != number:
                os.close(number)
            for sock in (other, other_peer, theirs):
                sock.close()

    run(main)


@pytest.mark.ours("asyncio answers with a KeyError")
@pytest.mark.parametrize("before", [0, 3_000_000])
def test_a_second_file_is_refused_while_one_is_sent(run, file, before):
    """The first arrives whole, and the connection goes on."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair("tcp")
        a = await open_end(ours, Recorder())
        a.transport.write(bytes(before))
        sending = asyncio.create_task(loop.sendfile(a.transport, file))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="in progress"):
            await loop.sendfile(a.transport, file)
        assert not sending.done()
        reading = asyncio.create_task(asyncio.to_thread(read_to_end, theirs))
        assert await sending == len(CONTENT)
        a.transport.write(b"after")
        a.transport.close()
        assert await reading == bytes(before) + CONTENT + b"after"
        await a.lost()
        theirs.close()

    run(main)


def test_sending_a_file_may_be_cancelled(run, file):
    async def main():
        a, theirs, sending = await send_slowly(file)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        a.transport.abort()
        await a.lost()
        theirs.close()

    run(main)


def test_a_file_over_a_bare_socket(run, file, wire):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair(wire)
        ours.setblocking(False)
        reading = asyncio.create_task(asyncio.to_thread(read_to_end, theirs))
        assert await loop.sock_sendfile(ours, file) == len(CONTENT)
        assert await loop.sock_sendfile(ours, file, 5, 10) == 10
        ours.close()
        assert await reading == CONTENT + CONTENT[5:15]
        theirs.close()

    run(main)


def test_what_is_no_regular_file_falls_back(run, wire):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        reader, writer = os.pipe()
        os.write(writer, b"through a pipe")
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            reading = asyncio.create_task(asyncio.to_thread(read_to_end, theirs))

            class NotSeekable:
                """The fallback reads; os.sendfile is not for what has no fileno."""

                mode = "rb"
                read = file.read
                readinto = file.readinto

            assert await loop.sendfile(a.transport, NotSeekable()) == 14
        a.transport.close()
        assert await reading == b"through a pipe"
        await a.lost()
        theirs.close()

    run(main)
