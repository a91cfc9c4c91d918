"""Who outlives whom: loops that are dropped, closed early or never made, and what they held."""

import asyncio
import fcntl
import gc
import os
import socket
import threading
import time
import warnings
import weakref

import pytest

import neverblock

from .loops import new_loop


class Holder(asyncio.Protocol):
    """Refers to its loop, as whatever waits on a loop does."""

    def __init__(self, loop):
        self.loop = loop

    def connection_made(self, transport):
        self.transport = transport

    def work(self):
        raise AssertionError("never runs")


def by_call_soon(loop, holder, near):
    loop.call_soon(holder.work)


def by_timer(loop, holder, near):
    loop.call_later(1000, holder.work)


def by_reader(loop, holder, near):
    loop.add_reader(near, holder.work)


def by_transport(loop, holder, near):
    loop.run_until_complete(loop.connect_accepted_socket(lambda: holder, near))


@pytest.mark.parametrize("hold", [by_call_soon, by_timer, by_reader, by_transport])
def test_a_loop_dropped_without_close_is_collected_with_what_it_held(kind, hold):
    near, far = socket.socketpair()
    near.setblocking(False)
    loop = new_loop(kind)
    holder = Holder(loop)
    hold(loop, holder, near)
    watched = weakref.ref(loop), weakref.ref(holder)
    del loop, holder
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
        gc.collect()
        said = [str(warning.message) for warning in told]
        told.clear()  # a warning has its source, which is kept by it from 3.15 on
        gc.collect()
    assert [ref() for ref in watched] == [None, None]
    assert any("unclosed event loop" in message for message in said)
    near.close()
    far.close()


def test_a_transport_may_outlive_its_loop(kind):
    near, far = socket.socketpair()
    near.setblocking(False)
    loop = new_loop(kind)
    transport, holder = loop.run_until_complete(
        loop.connect_accepted_socket(lambda: Holder(loop), near)
    )
    loop.close()
    for use in (transport.close, transport.abort, transport.pause_reading):
        try:
            use()
        except RuntimeError as error:
            assert str(error) == "Event loop is closed"  # noqa: PT017
    repr(transport)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        near.close()
        far.close()
        del transport, holder, use
        gc.collect()


def test_a_file_closed_under_its_reader_can_still_be_removed(loop):
    near, far = socket.socketpair()
    loop.add_reader(near, print)
    near.close()
    assert loop.remove_reader(near) is True
    with pytest.raises(ValueError, match="Invalid file"):
        loop.remove_reader(near)
    far.close()


@pytest.mark.ours("a backend is named to ours alone")
def test_a_loop_that_cannot_be_made_leaves_nothing_behind(kind, descriptors):
    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match='backend "bogus": unknown; use one of'):
            neverblock.Loop("bogus")
        gc.collect()
    assert descriptors() == before


def test_no_wake_up_is_lost_to_a_clock_that_lets_other_threads_run(loop):
    # The loop asks its clock how long it may sleep; in between another thread hands it work.
    handed = threading.Event()

    def clock():
        if loop.is_running() and not handed.is_set():
            handed.set()
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
            thread.start()
            thread.join()
        return time.monotonic()

    loop.call_later(1000, print)
    loop.time = clock
    loop.run_forever()
    assert handed.is_set()


def test_a_pipe_closed_by_somebody_else_can_still_be_shown(loop):
    reading, writing = os.pipe()
    file = os.fdopen(reading, "rb", 0)
    transport, _ = loop.run_until_complete(loop.connect_read_pipe(asyncio.Protocol, file))
    file.close()
    assert "ReadPipe" in repr(transport)
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))
    os.close(writing)


@pytest.mark.ours("asyncio goes on watching for the old owner, and the new one hears nothing")
def test_a_number_freed_under_a_transport_serves_the_next_connection(loop):
    # uvloop's issue 763: the pipe's descriptor closed a second time, under its new owner.
    reading, writing = os.pipe()
    file = os.fdopen(reading, "rb", 0)
    stale, _ = loop.run_until_complete(loop.connect_read_pipe(asyncio.Protocol, file))
    other, far = socket.socketpair()
    file.close()
    os.dup2(other.fileno(), reading)
    other.close()
    near = socket.socket(fileno=reading)
    near.setblocking(False)

    async def exchange():
        reader, writer = await asyncio.open_connection(sock=near)
        far.send(b"one")
        assert await reader.readexactly(3) == b"one"
        stale.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        far.send(b"two")
        assert await reader.readexactly(3) == b"two"
        writer.close()
        await writer.wait_closed()

    loop.run_until_complete(asyncio.wait_for(exchange(), 10))
    far.close()
    os.close(writing)


@pytest.mark.parametrize("name", ["StreamTransport", "ReadPipeTransport", "WritePipeTransport"])
def test_a_transport_that_was_not_made_whole_is_closed(name):
    from neverblock.engine import pipe, stream

    kind = getattr(stream if name == "StreamTransport" else pipe, name)
    transport = kind.__new__(kind)
    with pytest.raises(TypeError):
        transport.__init__(None, None, None)
    for method in ("close", "abort", "pause_reading", "resume_reading", "write_eof"):
        if any(method in vars(ours) for ours in kind.__mro__[:3]):
            getattr(transport, method)()
    if name != "ReadPipeTransport":
        transport.write(b"nobody hears")
        transport.set_write_buffer_limits(high=1)
    assert transport.is_closing()
    assert "closed" in repr(transport)


def test_the_end_of_a_replaced_callback_may_watch_more(kind):
    # Its end makes the table of descriptors grow, in the midst of the replacement.
    loop, seen = new_loop(kind), []
    near, far = socket.socketpair()
    high = fcntl.fcntl(near.fileno(), fcntl.F_DUPFD, 900)

    class Last:
        def __call__(self):
            raise AssertionError("was replaced")

        def __del__(self):
            loop.add_reader(high, print)

    loop.add_reader(near, Last())
    loop.add_reader(near, lambda: (seen.append(near.recv(1)), loop.stop()))
    loop.remove_reader(high)
    far.send(b"x")
    loop.run_forever()
    assert seen == [b"x"]
    loop.close()
    os.close(high)
    near.close()
    far.close()
