"""A descriptor has one owner, who closes it once.

A second close goes unseen until the number belongs to somebody else: then it is that one's
connection that is gone (uvloop's issue 763). So here a number is taken the moment it is free, and
whoever took it must still have it, with its bytes, after everything else is over.
"""

import asyncio
import gc
import io
import os
import socket
import sys
import threading
import warnings

import pytest

from .wire import Recorder, accept_end, open_end, pair, read_exactly


class Taken:
    """A connection under the number that another one had."""

    def __init__(self, number):
        self.number = number
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)  # it is free
        ours, peer = (sock.detach() for sock in socket.socketpair())
        if peer == number:
            ours, peer = peer, ours
        if ours != number:
            os.dup2(ours, number)
            os.close(ours)
        self.peer = socket.socket(fileno=peer)
        self.identity = os.fstat(number).st_ino
        self.peer.settimeout(10)

    def check(self):
        """It is there, it is the same, and what is sent over it arrives."""
        assert os.fstat(self.number).st_ino == self.identity, "closed, and the number used again"
        os.write(self.number, b"still here")
        assert self.peer.recv(100) == b"still here"
        self.peer.send(b"and back")
        assert os.read(self.number, 100) == b"and back"
        os.close(self.number)
        self.peer.close()


class WatchedSocket(socket.socket):
    """Records its close; at once its number is somebody else's."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.taken = []

    @classmethod
    def of(cls, sock):
        watched = cls(sock.family, sock.type, sock.proto, fileno=sock.detach())
        watched.settimeout(20)
        return watched

    def close(self):
        number = self.fileno()
        if number != -1:
            os.fstat(number)  # not closed behind its back
        super().close()
        if number != -1:
            self.taken.append(Taken(number))


class WatchedFile(io.FileIO):
    def __init__(self, number, mode):
        super().__init__(number, mode)
        self.taken = []

    def close(self):
        number = -1 if self.closed else self.fileno()
        if number != -1:
            os.fstat(number)
        super().close()
        if number != -1:
            self.taken.append(Taken(number))


async def settle():
    """Long after: turns of the loop, and the garbage collector."""
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)


ENDS = ["close", "abort", "peer closes", "peer closes, kept open", "failing protocol", "write eof"]


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("unsent", [0, 3_000_000])
@pytest.mark.parametrize("start", [open_end, accept_end])
def test_a_socket_is_closed_once(run, trouble, wire, how, unsent, start):
    def fail(*args):
        raise ValueError("mine")

    async def main():
        hooks = {"data_received": fail} if how == "failing protocol" else {}
        a = await start(ours, Recorder("kept" in how, **hooks))
        if unsent:
            a.transport.write(bytes(unsent))
        if how in ("close", "abort"):
            getattr(a.transport, how)()
        elif how == "write eof":
            a.transport.write_eof()
        elif how == "failing protocol":
            theirs.send(b"x")
        theirs.close()
        if "kept" in how:
            await a.until(lambda: a.lost_with or "eof_received" in a.calls)
            a.transport.close()
        await a.lost()
        transport = a.transport
        await settle()
        for name in ("close", "abort"):
            getattr(transport, name)()
        del transport
        a.transport = None
        await settle()

    ours, theirs = pair(wire)
    ours = WatchedSocket.of(ours)
    run(main)
    ours.close()
    assert len(ours.taken) == 1
    ours.taken[0].check()
    trouble.take()


@pytest.mark.parametrize("how", ["close", "abort", "peer closes", "collected", "loop closes"])
@pytest.mark.parametrize("side", ["read", "write"])
def test_a_pipes_file_is_closed_once(run, kind, side, how):
    """The loop owns the file it was given: it closes the file, and the number by no other way."""
    if kind == "asyncio" and side == "read" and how == "abort":
        pytest.skip("asyncio's reading ends have no abort")

    async def main():
        loop = asyncio.get_running_loop()
        connect = loop.connect_read_pipe if side == "read" else loop.connect_write_pipe
        transport, protocol = await connect(Recorder, file)
        if side == "write":
            transport.write(b"x" * 1000)
        if how in ("close", "abort"):
            getattr(transport, how)()
        elif how == "peer closes":
            os.close(other.pop())
        elif how == "loop closes":
            return
        if how != "collected":
            await protocol.lost()
            await settle()
            transport.close()
        del transport
        protocol.transport = None
        del protocol
        await settle()

    reader, writer = os.pipe()
    mine, other = (reader, [writer]) if side == "read" else (writer, [reader])
    file = WatchedFile(mine, "rb" if side == "read" else "wb")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # unclosed transports, where so asked
        run(main)
        gc.collect()
    file.close()
    assert len(file.taken) == 1
    file.taken[0].check()
    for number in other:
        os.close(number)


def test_the_pipes_of_a_subprocess_are_closed_once(run):
    """While another thread opens and checks descriptors as fast as it may."""
    over = threading.Event()
    damage = []

    def watch():
        while not over.is_set():
            held = []
            for _ in range(10):
                one = os.memfd_create("watched")
                held.append((one, os.fstat(one).st_ino))
            for number, inode in held:
                try:
                    if os.fstat(number).st_ino != inode:
                        damage.append(f"{number} is another file")
                    os.close(number)
                except OSError as error:
                    damage.append(f"{number}: {error}")

    async def main():
        pipe = asyncio.subprocess.PIPE
        for n in range(15):
            process = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
            if n % 3 == 0:
                process.stdin.close()  # and then again, by the transport, at its end
            if n % 3 == 1:
                process.kill()
            await process.communicate(b"x" if n % 3 == 2 else None)
            process._transport.close()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        run(main)
    finally:
        over.set()
        thread.join()
    assert not damage


def test_connections_that_come_and_go_beside_pipes_lose_nothing(run):
    """Pipes and connections share the lowest numbers, closing and opening in turn."""

    async def main():
        loop = asyncio.get_running_loop()

        async def echo(reader, writer):
            writer.write(await reader.read())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()

        async def talk(n):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"%d" % n * 1000)
            await asyncio.sleep(0)
            writer.write_eof()
            assert await reader.read() == b"%d" % n * 1000
            writer.close()
            await writer.wait_closed()

        async def through_a_pipe(n):
            reader, writer = os.pipe()
            read_file, write_file = os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)
            _, source = await loop.connect_read_pipe(Recorder, read_file)
            transport, sink = await loop.connect_write_pipe(Recorder, write_file)
            transport.write(b"p%d" % n)
            if n % 2:
                transport.close()
                assert await source.ended() == b"p%d" % n
            else:
                await source.received(2)
                source.transport.close()
            await source.lost()
            transport.close()
            await sink.lost()
            del transport, source, sink, read_file, write_file

        for round_number in range(30):
            await asyncio.gather(
                *(talk(n) for n in range(round_number, round_number + 5)),
                *(through_a_pipe(n) for n in range(5)),
            )
        server.close()

    run(main)


async def closed_behind(how):
    """A transport whose file the user closed, and who has the number now; and its other end."""
    loop = asyncio.get_running_loop()
    if how == "pipe":
        reader, writer = os.pipe()
        mine, other = os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)
        transport, _ = await loop.connect_read_pipe(Recorder, mine)
    else:
        mine, other = socket.socketpair()
        transport, _ = await loop.create_connection(Recorder, sock=mine)
    number = mine.fileno()
    mine.close()
    return transport, Taken(number), other


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("how", ["pipe", "socket"])
def test_a_file_closed_behind_the_transport_is_not_closed_again(run, how, end):
    """The user closes what the transport owns, and somebody else has the number when it closes."""

    async def main():
        transport, taken, other = await closed_behind(how)
        with other:
            getattr(transport, end if hasattr(transport, end) else "close")()
            await settle()
        del transport
        await settle()
        taken.check()

    run(main)


@pytest.mark.parametrize("how", ["pipe", "socket"])
def test_a_number_that_is_a_regular_files_by_now_ends_its_transport(run, how):
    """epoll refuses such a file, whatever it is asked to do with it (EPERM)."""

    async def main():
        transport, taken, other = await closed_behind(how)
        protocol = transport.get_protocol()
        with other, taken.peer, open(__file__, "rb") as file:
            os.dup2(file.fileno(), taken.number)
            transport.close()
            await protocol.lost()
            assert os.read(taken.number, 3) == b'"""'
            os.close(taken.number)

    run(main)


def test_a_reader_whose_number_is_a_regular_files_by_now_can_be_removed(run):
    async def main():
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        loop.add_reader(near, print)
        number = near.detach()
        with far, open(__file__, "rb") as file:
            os.dup2(file.fileno(), number)
            assert loop.remove_reader(number) is True
            os.close(number)

    run(main)


@pytest.mark.ours("asyncio refuses the new connection, or never serves it")
@pytest.mark.parametrize("how", ["pipe", "socket"])
def test_a_number_closed_behind_a_transport_serves_its_next_owner(run, trouble, how):
    """Or else a server turns away each client who gets that number, which is the lowest."""

    async def main():
        transport, taken, other = await closed_behind(how)
        b = Recorder()
        sock = socket.socket(fileno=taken.number)
        try:
            await open_end(sock, b)
            taken.peer.send(b"one")
            assert await b.received(3) == b"one"
            transport.close()
            await settle()
            taken.peer.send(b"two")
            assert await b.received(6) == b"onetwo"
            b.transport.write(b"three")
            assert await asyncio.to_thread(taken.peer.recv, 100) == b"three"
        finally:
            transport.abort()
            if b.transport is not None:
                b.transport.abort()
                await b.lost()
            await settle()
            for one in (sock, taken.peer, other):
                one.close()

    try:
        run(main)
    finally:
        trouble.take()


def test_a_transport_whose_file_was_closed_behind_it_can_be_shown(run):
    """In a log, say, by the one who looks for the fault."""

    async def main():
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        files = os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)
        source, a = await loop.connect_read_pipe(Recorder, files[0])
        sink, b = await loop.connect_write_pipe(Recorder, files[1])
        source.pause_reading()
        for file in files:
            file.close()
        try:
            return repr(source), repr(sink)
        finally:
            source.close()
            sink.close()
            await a.lost()
            await b.lost()

    assert all(run(main))


def test_detach_gives_the_descriptor_away(run, wire):
    """A socket detached under its transport is not the transport's to close."""

    async def main():
        a = await open_end(ours, Recorder())
        number = ours.detach()
        a.transport.abort()
        await a.lost()
        await settle()
        os.write(number, b"mine")
        assert await asyncio.to_thread(theirs.recv, 10) == b"mine"
        os.close(number)

    ours, theirs = pair(wire)
    with theirs:
        run(main)


def test_a_failed_start_leaves_the_socket_to_its_owner(run, kind, wire):
    """A second transport for one socket is refused; the first one goes on."""
    if kind == "asyncio" and sys.version_info[:2] != (3, 13):
        pytest.skip("asyncio let both have it until 3.12, and closes it from 3.14 on")

    async def main():
        loop = asyncio.get_running_loop()
        a = await open_end(ours, Recorder())
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.create_connection(Recorder, sock=ours)
        await settle()
        theirs.send(b"goes on")
        assert await a.received(7) == b"goes on"
        a.transport.close()
        await a.lost()

    ours, theirs = pair(wire)
    with theirs:
        run(main)


def test_handlers_that_never_close_leave_no_descriptor(run, descriptors):
    """After the peer's end only the handler knew of the connection: the collector finds it."""

    async def forgetful(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
        writer.write(b"bye")

    async def main():
        server = await asyncio.start_server(forgetful, "127.0.0.1", 0)
        before = descriptors()
        for _ in range(20):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.readexactly(8) == b"hellobye"
            writer.close()
            await writer.wait_closed()
        del reader, writer
        while descriptors() != before:
            await settle()
        server.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # unclosed, as it is
        run(main)


def test_a_connection_that_is_held_after_the_peers_end_can_be_written_to(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder(keep_open=True))
        theirs.shutdown(socket.SHUT_WR)
        await a.ended()
        for size in (1, 3_000_000, 5):
            await settle()
            a.transport.write(bytearray(size))
            await asyncio.to_thread(read_exactly, theirs, size)
            await a.until(lambda: not a.paused)
        await settle()
        a.transport.close()
        assert await a.lost() is None
        assert theirs.recv(1) == b""
        theirs.close()

    run(main)


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_number_closed_behind_after_the_peers_end_is_not_written_to(run, size):
    async def main():
        ours, theirs = socket.socketpair()
        a = await open_end(ours, Recorder(keep_open=True))
        theirs.shutdown(socket.SHUT_WR)
        await a.ended()
        number = ours.fileno()
        ours.close()
        taken = Taken(number)
        a.transport.write(bytes(size))
        assert isinstance(await a.lost(), OSError)
        taken.check()
        theirs.close()

    run(main)
