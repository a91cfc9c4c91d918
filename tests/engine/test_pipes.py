"""Pipe transports: reading and writing ends, pseudo-terminals, ends that go, files they own."""

import asyncio
import os
import socket
import sys
import tty

import pytest

from .wire import Recorder, pattern


async def read_end(fileobj, protocol=None):
    _, protocol = await asyncio.get_running_loop().connect_read_pipe(
        lambda: protocol or Recorder(), fileobj
    )
    return protocol


async def write_end(fileobj, protocol=None):
    _, protocol = await asyncio.get_running_loop().connect_write_pipe(
        lambda: protocol or Recorder(), fileobj
    )
    return protocol


def pipe():
    reader, writer = os.pipe()
    return os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)


def test_bytes_go_through(run):
    async def main():
        reader, writer = pipe()
        a, b = await write_end(writer), await read_end(reader)
        a.transport.write(b"hello")
        assert await b.received(5) == b"hello"
        a.transport.close()
        assert await b.lost() is None
        assert await a.lost() is None
        assert b.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
        assert a.calls == ["connection_made", "connection_lost"]
        assert reader.closed
        assert writer.closed

    run(main)


def test_many_bytes_go_through_in_order(run):
    async def main():
        reader, writer = pipe()
        a, b = await write_end(writer), await read_end(reader)
        data = pattern(5_000_000)
        position = 0
        for n in range(1, 1 << 30):
            chunk = data[position : position + n * 37]
            if not chunk:
                break
            position += len(chunk)
            if n % 2:
                a.transport.write(chunk)
            else:
                a.transport.writelines([chunk[:5], bytearray(chunk[5:20]), memoryview(chunk)[20:]])
            if n % 10 == 0:
                await asyncio.sleep(0)
        a.transport.write_eof()
        assert await b.ended() == data
        assert await a.lost() is None
        assert await b.lost() is None

    run(main)


def test_pauses_hold_back_writer_and_reader(run):
    async def main():
        reader, writer = pipe()
        a, b = await write_end(writer), await read_end(reader)
        b.transport.pause_reading()
        assert not b.transport.is_reading()
        written = 0
        while not a.paused:
            a.transport.write(bytes(10_000))
            written += 10_000
        assert 65536 < a.transport.get_write_buffer_size() <= 65536 + 10_000
        for _ in range(5):
            await asyncio.sleep(0)
        assert not b.data
        b.transport.resume_reading()
        assert b.transport.is_reading()
        await b.received(written)
        await a.until(lambda: not a.paused)
        assert a.transport.get_write_buffer_size() <= 16384
        a.transport.close()
        await b.lost()

    run(main)


def test_the_writer_learns_that_the_reader_went(run):
    """Without writing a byte: the kernel reports the error alone."""

    async def main():
        reader, writer = pipe()
        a = await write_end(writer)
        reader.close()
        assert isinstance(await a.lost(), (BrokenPipeError, type(None)))
        assert a.transport.is_closing()
        a.transport.write(b"dropped")

    run(main)


def test_the_writer_learns_that_the_reader_went_with_bytes_unsent(run):
    async def main():
        reader, writer = pipe()
        a = await write_end(writer)
        while not a.paused:
            a.transport.write(bytes(65536))
        reader.close()
        assert isinstance(await a.lost(), (BrokenPipeError, type(None)))

    run(main)


def test_close_and_write_eof_of_a_full_writer_send_everything(run):
    async def main():
        for end in ("close", "write_eof"):
            reader, writer = pipe()
            a = await write_end(writer)
            assert a.transport.can_write_eof()
            a.transport.write(pattern(1_000_000))
            getattr(a.transport, end)()
            data = await asyncio.to_thread(reader.readall)
            assert data == pattern(1_000_000)
            assert await a.lost() is None
            reader.close()

    run(main)


def test_abort_of_a_full_writer_sends_no_more(run):
    async def main():
        reader, writer = pipe()
        a = await write_end(writer)
        a.transport.write(bytes(1_000_000))
        a.transport.abort()
        assert await a.lost() is None
        assert len(await asyncio.to_thread(reader.readall)) < 1_000_000
        reader.close()

    run(main)


def test_misuse(run, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        with open(tmp_path / "file", "w+b") as file:
            with pytest.raises(ValueError, match=r"[Pp]ipe"):
                await loop.connect_read_pipe(Recorder, file)
            with pytest.raises(ValueError, match=r"[Pp]ipe"):
                await loop.connect_write_pipe(Recorder, file)
        reader, writer = pipe()
        a = await write_end(writer)
        for bad in ("text", None, 5):
            with pytest.raises((TypeError, AssertionError)):
                a.transport.write(bad)
        a.transport.close()
        await a.lost()
        reader.close()

    run(main)


def test_the_ends_of_a_socket_pair_may_serve_as_pipes(run):
    async def main():
        ours, theirs = socket.socketpair()
        a = await write_end(ours)
        b = await read_end(theirs)
        a.transport.write(b"x" * 1000)
        a.transport.write_eof()
        assert await b.ended() == b"x" * 1000
        await b.lost()
        await a.lost()

    run(main)


def test_a_fifo(run, tmp_path):
    async def main():
        path = tmp_path / "fifo"
        os.mkfifo(path)
        for n in range(3):
            reader = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
            writer = open(path, "wb", 0)  # noqa: SIM115
            b, a = await read_end(reader), await write_end(writer)
            a.transport.write(b"%d" % n)
            a.transport.close()
            assert await b.ended() == b"%d" % n
            await b.lost()
            await a.lost()

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="pseudo-terminals differ")
def test_a_pseudo_terminal(run):
    """Its end is reported as an error of input and output, not as an end."""

    async def main():
        main_end, other = os.openpty()
        b = await read_end(os.fdopen(main_end, "rb", 0))
        a = await write_end(os.fdopen(other, "wb", 0))
        a.transport.write(b"a line\n")
        assert await b.received(8) == b"a line\r\n"
        a.transport.close()
        await a.lost()
        assert isinstance(await b.lost(), (OSError, type(None)))

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="pseudo-terminals differ")
@pytest.mark.parametrize("first", ["reader", "writer"])
@pytest.mark.parametrize("closed", ["reader", "writer"])
def test_one_terminal_to_read_and_to_write(run, kind, descriptors, first, closed):
    """As programs have it from fd 0 alone; either half may end before the other."""
    if kind == "asyncio" and closed == "writer":
        pytest.skip("asyncio's writer takes the reader's watch with it")

    async def main():
        far, near = os.openpty()
        tty.setraw(near)
        before = descriptors()
        given = {
            "reader": os.fdopen(near, "rb", 0, closefd=False),
            "writer": os.fdopen(near, "wb", 0, closefd=False),
        }
        connect = {"reader": read_end, "writer": write_end}
        ends = {}
        for name in (first, "writer" if first == "reader" else "reader"):
            ends[name] = await connect[name](given[name])
        reader, writer = ends["reader"], ends["writer"]
        os.write(far, b"typed\n")
        assert await reader.received(6) == b"typed\n"
        writer.transport.write(b"shown\n")
        assert await asyncio.to_thread(os.read, far, 100) == b"shown\n"
        ends.pop(closed).transport.close()
        await (reader if closed == "reader" else writer).lost()
        if closed == "reader":
            writer.transport.write(b"still shown\n")
            assert await asyncio.to_thread(os.read, far, 100) == b"still shown\n"
        else:
            os.write(far, b"still typed\n")
            assert await reader.received(18) == b"typed\nstill typed\n"
        for end in ends.values():
            end.transport.close()
            await end.lost()
        assert descriptors() == before
        os.close(near)
        os.close(far)

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="it is found in proc(5)")
@pytest.mark.ours("asyncio has no copy")
def test_a_terminal_s_file_is_closed_though_somebody_closed_its_copy(run):
    async def main():
        loop = asyncio.get_running_loop()
        far, near = os.openpty()
        reader = await read_end(os.fdopen(near, "rb", 0, closefd=False))
        file = os.fdopen(near, "wb", 0, closefd=False)
        before = open_numbers()
        writer = await write_end(file)
        [copy] = open_numbers() - before
        os.close(copy)
        told = asyncio.Event()
        loop.set_exception_handler(lambda loop, context: told.set())
        writer.transport.abort()
        await told.wait()
        assert file.closed
        reader.transport.close()
        await reader.lost()
        os.close(near)
        os.close(far)

    run(main)


def open_numbers():
    """Without the one that the listing itself had."""
    listed = os.listdir("/proc/self/fd")
    return {int(each) for each in listed if os.path.exists(f"/proc/self/fd/{each}")}


def test_one_file_for_two_writers(run):
    """Programs give sys.stdout to the loop more than once."""

    async def main():
        reader, writer = pipe()
        a = await write_end(os.fdopen(os.dup(writer.fileno()), "wb", 0))
        b = await write_end(os.fdopen(os.dup(writer.fileno()), "wb", 0))
        a.transport.write(b"a")
        b.transport.write(b"b")
        assert sorted(await asyncio.to_thread(os.read, reader.fileno(), 10)) in ([97], [97, 98])
        for one in (a, b):
            one.transport.close()
            await one.lost()
        reader.close()
        writer.close()

    run(main)


def test_streams_over_pipes(run):
    async def main():
        loop = asyncio.get_running_loop()
        reader_file, writer_file = pipe()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), reader_file)
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, writer_file
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)

        async def produce():
            for n in range(20_000):
                writer.write(b"line %d\n" % n)
                await writer.drain()
            writer.close()

        producing = asyncio.create_task(produce())
        for n in range(20_000):
            assert await reader.readline() == b"line %d\n" % n
        assert await reader.read() == b""
        await producing

    run(main)


def test_what_transports_tell(run):
    async def main():
        reader, writer = pipe()
        a, b = await write_end(writer), await read_end(reader)
        assert a.transport.get_extra_info("pipe") is writer
        assert b.transport.get_extra_info("pipe") is reader
        assert a.transport.get_extra_info("peername", "none") == "none"
        assert isinstance(a.transport, asyncio.WriteTransport)
        assert isinstance(b.transport, asyncio.ReadTransport)
        assert a.transport.get_protocol() is a
        assert a.transport.get_write_buffer_limits() == (16384, 65536)
        repr(a.transport), repr(b.transport)
        a.transport.close()
        await b.lost()
        repr(a.transport), repr(b.transport)

    run(main)


@pytest.mark.parametrize("name", ["data_received", "eof_received"])
def test_an_error_in_a_callback_ends_the_pipe(run, trouble, name):
    def fail(*args):
        raise ValueError("mine")

    async def main():
        reader, writer = pipe()
        b = await read_end(reader, Recorder(**{name: fail}))
        writer.write(b"x")
        writer.close()
        await b.until(lambda: b.lost_with or trouble)
        if not b.lost_with:
            b.transport.close()
        await b.lost()
        assert reader.closed

    run(main)
    contexts = trouble.take()
    assert [str(context["exception"]) for context in contexts] == ["mine"]
