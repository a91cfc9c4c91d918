"""add_reader, add_writer and their removal, in every order that a turn of the loop allows."""

import asyncio
import os
import socket
import weakref

import pytest

from .test_callbacks import turn


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def pairs():
    made = [socket.socketpair() for _ in range(100)]
    for ours, theirs in made:
        ours.setblocking(False)
        theirs.setblocking(False)
    yield made
    for ours, theirs in made:
        ours.close()
        theirs.close()


def turns(loop, count=5):
    for _ in range(count):
        turn(loop)


def test_a_reader_is_called_with_its_arguments_while_there_is_something_to_read(loop, pair):
    ours, theirs = pair
    seen = []
    loop.add_reader(ours, lambda *args: seen.append((args, ours.recv(1))), 1, "two")
    turns(loop)
    assert not seen
    theirs.send(b"abc")
    turns(loop)
    assert seen == [((1, "two"), b"a"), ((1, "two"), b"b"), ((1, "two"), b"c")]
    assert loop.remove_reader(ours) is True
    theirs.send(b"d")
    turns(loop)
    assert len(seen) == 3


def test_a_writer_is_called_while_there_is_room(loop, pair):
    ours, theirs = pair
    sent = 0

    def write():
        nonlocal sent
        try:
            sent += ours.send(bytes(65536))
        except BlockingIOError:
            pytest.fail("called with no room to write")

    loop.add_writer(ours, write)
    for _ in range(1000):
        before = sent
        turn(loop)
        if sent == before:
            break
    else:
        pytest.fail("the socket never filled")
    received = 0
    while received < sent:
        received += len(theirs.recv(1 << 20))
    turn(loop)
    assert sent > received
    assert loop.remove_writer(ours) is True


def test_a_descriptor_may_be_a_number_or_have_fileno(loop, pair):
    ours, theirs = pair
    seen = []
    theirs.send(b"x")
    loop.add_reader(ours.fileno(), seen.append, "number")
    turn(loop)
    loop.add_reader(ours, seen.append, "object")
    turn(loop)
    assert loop.remove_reader(ours.fileno()) is True
    assert loop.remove_reader(ours) is False
    assert seen == ["number", "object"]


@pytest.mark.parametrize("bad", [-1, "text", None, 1.5, object()])
def test_what_is_no_descriptor_is_refused(loop, bad):
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises((ValueError, TypeError)):
            add(bad, print)


def test_a_closed_file_is_refused(loop):
    ours, theirs = socket.socketpair()
    ours.close()
    theirs.close()
    with pytest.raises(ValueError, match="file descriptor"):
        loop.add_reader(ours, print)


def test_a_number_that_nobody_opened_is_refused_and_costs_no_memory(program):
    """A table made to reach it before the kernel is asked would take hundreds of megabytes."""
    done = program("""
import resource, sys
from tests.engine.loops import new_loop
loop = new_loop(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in (5_000_000, 2_000_000_000):
    for add in (loop.add_reader, loop.add_writer):
        try:
            add(number, print)
        except (OSError, ValueError):
            pass
        else:
            loop.remove_reader(number) or loop.remove_writer(number)  # the select of asyncio
        assert loop.remove_reader(number) is False
        assert loop.remove_writer(number) is False
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
loop.close()
""")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30_000  # KiB


@pytest.mark.parametrize("number", [1 << 31, 1 << 40, 1 << 80, -(1 << 40)])
def test_a_number_too_large_for_a_descriptor_is_refused(loop, number):
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises((OSError, ValueError, OverflowError)):
            add(number, print)


@pytest.mark.parametrize("how", ["object", "number"])
def test_a_file_that_is_no_longer_watched_is_let_go(loop, how):
    """By whichever of its names it was removed."""

    class File:
        def __init__(self, number):
            self.number = number

        def fileno(self):
            return self.number

    ours, theirs = socket.socketpair()
    with ours, theirs:
        file = File(ours.fileno())
        ref = weakref.ref(file)
        loop.add_reader(file, print)
        loop.add_writer(file, print)
        loop.remove_reader(file if how == "object" else file.number)
        loop.remove_writer(file if how == "object" else file.number)
        del file
        assert ref() is None


def test_a_file_that_could_not_be_watched_is_let_go(loop):
    class File:
        def fileno(self):
            return 1_000_000  # open nowhere

    file = File()
    ref = weakref.ref(file)
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises((OSError, ValueError)):
            add(file, print)
    del file
    assert ref() is None


def test_adding_again_replaces(loop, pair):
    ours, theirs = pair
    seen = []
    theirs.send(b"x")
    loop.add_reader(ours, seen.append, "first")
    loop.add_reader(ours, seen.append, "second")
    loop.add_writer(ours, seen.append, "first writer")
    loop.add_writer(ours, seen.append, "second writer")
    turn(loop)
    assert sorted(seen) == ["second", "second writer"]
    assert loop.remove_reader(ours) is True
    assert loop.remove_writer(ours) is True
    assert loop.remove_reader(ours) is False
    assert loop.remove_writer(ours) is False


def test_replacing_from_within(loop, pair):
    ours, theirs = pair
    seen = []

    def first():
        seen.append("first")
        loop.add_reader(ours, seen.append, "second")

    theirs.send(b"x")
    loop.add_reader(ours, first)
    turns(loop, 3)
    loop.remove_reader(ours)
    assert seen == ["first", "second", "second"]


def test_replacing_one_that_is_queued_in_this_turn(loop, pairs):
    """Two are ready; the first to run replaces the other, whose old callback must not run."""
    (a, a_peer), (b, b_peer) = pairs[:2]
    seen = []

    def run(me, other):
        seen.append(me)
        loop.remove_reader({"a": a, "b": b}[me])
        loop.add_reader({"a": a, "b": b}[other], seen.append, "new")

    a_peer.send(b"x")
    b_peer.send(b"x")
    loop.add_reader(a, run, "a", "b")
    loop.add_reader(b, run, "b", "a")
    turn(loop)
    assert len(seen) == 1
    turn(loop)
    assert seen[1:] == ["new"]
    loop.remove_reader(a)
    loop.remove_reader(b)


def test_removing_from_within(loop, pair):
    ours, theirs = pair
    seen = []

    def once():
        seen.append(1)
        assert loop.remove_reader(ours) is True

    theirs.send(b"x")
    loop.add_reader(ours, once)
    turns(loop)
    assert seen == [1]


def test_one_removed_by_another_in_the_same_turn_does_not_run(loop, pairs):
    """All are ready together; the first to run removes the rest."""
    seen = []

    def first(me):
        seen.append(me)
        for ours, _ in pairs:
            loop.remove_reader(ours)

    for n, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        loop.add_reader(ours, first, n)
    turns(loop)
    assert len(seen) == 1


def test_reader_and_writer_of_one_descriptor_may_remove_each_other(loop, pair):
    ours, theirs = pair
    seen = []

    def run(me, remove_other):
        seen.append(me)
        remove_other(ours)

    theirs.send(b"x")
    loop.add_reader(ours, run, "reader", loop.remove_writer)
    loop.add_writer(ours, run, "writer", loop.remove_reader)
    turn(loop)
    assert len(seen) == 1
    loop.remove_reader(ours)
    loop.remove_writer(ours)


def test_removing_one_side_leaves_the_other(loop, pair):
    ours, theirs = pair
    seen = []
    theirs.send(b"x")
    loop.add_reader(ours, seen.append, "reader")
    loop.add_writer(ours, seen.append, "writer")
    loop.remove_reader(ours)
    turn(loop)
    assert seen == ["writer"]
    loop.add_reader(ours, seen.append, "reader")
    loop.remove_writer(ours)
    turn(loop)
    assert seen == ["writer", "reader"]
    loop.remove_reader(ours)


def test_add_and_remove_in_one_turn(loop, pair):
    ours, theirs = pair
    theirs.send(b"x")
    for _ in range(10):
        loop.add_reader(ours, pytest.fail, "removed already")
        loop.add_writer(ours, pytest.fail, "removed already")
        loop.remove_reader(ours)
        loop.remove_writer(ours)
        turn(loop)


def test_a_reader_added_in_a_turn_is_served_in_the_next(loop, pair):
    ours, theirs = pair
    seen = []
    theirs.send(b"x")
    loop.call_soon(loop.add_reader, ours, lambda: seen.append(ours.recv(1)))
    turns(loop, 3)
    loop.remove_reader(ours)
    assert seen == [b"x"]


def test_all_that_are_ready_are_served_once_a_turn(loop, pairs):
    served = [0] * len(pairs)

    def serve(n):
        served[n] += 1

    for n, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        loop.add_reader(ours, serve, n)
    for count in range(1, 6):
        turn(loop)
        assert set(served) == {count}
    for ours, _ in pairs:
        loop.remove_reader(ours)


def test_a_callback_that_raises_is_told_and_stays(loop, pair, trouble):
    ours, theirs = pair

    def read():
        ours.recv(1)
        raise ValueError

    theirs.send(b"xy")
    loop.add_reader(ours, read)
    turns(loop)
    loop.remove_reader(ours)
    assert [type(context["exception"]) for context in trouble.take()] == [ValueError] * 2


def test_a_removed_reader_keeps_nothing(loop, pair):
    class Thing:
        def __call__(self, arg):
            pass

    ours, _ = pair
    thing, arg = Thing(), Thing()
    refs = [weakref.ref(thing), weakref.ref(arg)]
    loop.add_reader(ours, thing, arg)
    turn(loop)
    loop.remove_reader(ours)
    del thing, arg
    assert [ref() for ref in refs] == [None, None]


def test_a_closed_loop_keeps_no_reader(loop, pair):
    class Thing:
        def __call__(self):
            pass

    thing = Thing()
    ref = weakref.ref(thing)
    loop.add_reader(pair[0], thing)
    loop.close()
    del thing
    assert ref() is None


# Ends and errors


def test_the_end_of_a_stream_is_readable(loop, pair):
    ours, theirs = pair
    seen = []
    loop.add_reader(ours, lambda: (seen.append(ours.recv(1)), loop.stop()))
    theirs.close()
    loop.run_forever()
    loop.remove_reader(ours)
    assert seen == [b""]


def test_a_half_close_is_readable_and_the_other_half_writable(loop, pair):
    ours, theirs = pair
    seen = []
    theirs.shutdown(socket.SHUT_WR)
    loop.add_reader(ours, lambda: (seen.append(ours.recv(1)), loop.remove_reader(ours)))
    loop.add_writer(ours, lambda: (seen.append(ours.send(b"x")), loop.remove_writer(ours)))
    turns(loop)
    assert sorted(seen, key=str) == [1, b""]
    assert theirs.recv(10) == b"x"


def test_a_pipe_without_its_writer_is_readable(loop):
    """The kernel reports a hang-up alone, with nothing to read."""
    reader, writer = os.pipe()
    seen = []
    loop.add_reader(reader, lambda: (seen.append(os.read(reader, 1)), loop.stop()))
    os.close(writer)
    loop.run_forever()
    loop.remove_reader(reader)
    os.close(reader)
    assert seen == [b""]


def test_a_pipe_without_its_reader_is_writable(loop):
    """The kernel reports an error alone."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, bytes(65536))
    seen = []

    def write():
        try:
            os.write(writer, b"x")
        except BrokenPipeError as error:
            seen.append(error)
        loop.stop()

    loop.add_writer(writer, write)
    turns(loop, 3)
    assert not seen
    os.close(reader)
    loop.run_forever()
    loop.remove_writer(writer)
    os.close(writer)
    assert len(seen) == 1


def test_a_refused_connection_is_writable(loop):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
        sock = socket.socket()
        sock.setblocking(False)
        with sock:
            assert sock.connect_ex(address) != 0
            loop.add_writer(sock, loop.stop)
            loop.run_forever()
            loop.remove_writer(sock)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def test_a_reset_is_readable(loop):
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as ours:
        theirs, _ = listener.accept()
        ours.setblocking(False)
        seen = []

        def read():
            try:
                ours.recv(1)
            except ConnectionResetError:
                seen.append("reset")
            loop.stop()

        loop.add_reader(ours, read)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        theirs.close()
        loop.run_forever()
        loop.remove_reader(ours)
    assert seen == ["reset"]


# Numbers used again


def test_a_number_used_again_in_the_same_turn_gets_none_of_the_old_events(loop, pairs):
    """Both are ready; whichever runs first closes the other and takes its number for a new one."""
    (a, a_peer), (b, b_peer) = pairs[:2]
    new, new_peer = socket.socketpair()
    seen = []

    def run(me, other, other_number):
        seen.append(me)
        loop.remove_reader(other)
        loop.remove_reader(a if me == "a" else b)
        os.dup2(new.fileno(), other_number)  # closes it and takes its number at once
        loop.add_reader(other_number, lambda: seen.append(os.read(other_number, 1)))
        seen.append(other_number)

    a_peer.send(b"x")
    b_peer.send(b"x")
    loop.add_reader(a, run, "a", b, b.fileno())
    loop.add_reader(b, run, "b", a, a.fileno())
    turns(loop)
    assert len(seen) == 2, seen
    new_peer.send(b"n")
    turns(loop)
    assert seen[2:] == [b"n"]
    assert loop.remove_reader(seen[1]) is True
    new.close()
    new_peer.close()


def test_numbers_used_again_over_and_over(loop):
    """Each round the lowest numbers come back; each time the new one is served and no other."""
    for n in range(300):
        ours, theirs = socket.socketpair()
        seen = []
        with ours, theirs:
            if n % 3:
                loop.add_writer(ours, loop.remove_writer, ours)
            loop.add_reader(ours, lambda: (seen.append(ours.recv(1)), loop.stop()))  # noqa: B023
            if n % 2:
                turn(loop)
            assert not seen
            theirs.send(b"x")
            loop.run_forever()
            loop.remove_reader(ours)
            loop.remove_writer(ours)
        assert seen == [b"x"]


def test_a_number_removed_closed_and_used_again_in_one_callback(loop, pairs):
    """No turn passes between: what the kernel knows of the number must be made new."""
    (a, _), (b, b_peer) = pairs[:2]
    number = a.fileno()
    seen = []

    def swap():
        loop.remove_reader(number)
        os.dup2(b.fileno(), number)
        loop.add_reader(number, lambda: (seen.append(os.read(number, 1)), loop.stop()))

    loop.add_reader(number, pytest.fail, "nothing was sent")
    turns(loop)
    loop.call_soon(swap)
    turns(loop)
    b_peer.send(b"x")
    loop.run_forever()
    loop.remove_reader(number)
    assert seen == [b"x"]


def test_a_duplicate_keeps_no_event_alive(loop, pair):
    """epoll goes on reporting a closed number while a duplicate of it is open."""
    ours, theirs = pair
    duplicate = ours.dup()
    seen = []
    with duplicate:
        loop.add_reader(ours, seen.append, 1)
        turn(loop)
        loop.remove_reader(ours)
        ours.close()
        theirs.send(b"x")
        turns(loop)
    assert not seen


# What transports use


def test_a_descriptor_of_a_transport_is_refused(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        number = transport.get_extra_info("socket").fileno()
        for add in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match=rf"descriptor {number} is used by transport"):
                add(number, print)
        for remove in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match=rf"descriptor {number} is used by transport"):
                remove(number)
        # and the transport goes on
        transport.write(b"still mine")
        assert await loop.sock_recv(theirs, 100) == b"still mine"
        transport.close()
        await asyncio.sleep(0)
        theirs.close()

    run(main)


def test_a_number_of_a_closed_transport_is_free_again(run):
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(20):
            lost = loop.create_future()

            class Lost(asyncio.Protocol):
                def connection_lost(self, exc, lost=lost):
                    lost.set_result(exc)

            ours, theirs = socket.socketpair()
            number = ours.fileno()
            transport, _ = await loop.create_connection(Lost, sock=ours)
            transport.close()
            assert await lost is None
            while ours.fileno() != -1:  # closed after connection_lost
                await asyncio.sleep(0)
            os.dup2(theirs.fileno(), number)
            loop.add_reader(number, print)
            assert loop.remove_reader(number) is True
            os.close(number)
            theirs.close()

    run(main)
