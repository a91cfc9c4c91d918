"""The end of a stream: close, abort and errors from every callback, and connection_lost after all.

Whatever happens, connection_lost comes exactly once and last; the Recorder sees to that.
"""

import asyncio
import logging
import socket
import sys

import pytest

from .test_flow_control import fill
from .wire import Recorder, accept_end, open_end, pair, pattern, read_exactly, read_to_end, reset

REPLY = pattern(200_000)


async def bring_about(name, protocol, theirs):
    """Make the callback of that name happen."""
    if name in ("data_received", "eof_received"):
        await asyncio.to_thread(theirs.sendall, b"data")
    if name == "eof_received":
        theirs.shutdown(socket.SHUT_WR)
    if name in ("pause_writing", "resume_writing"):
        fill(protocol)
    await protocol.until(lambda: name in protocol.calls or name == "resume_writing")


@pytest.mark.parametrize(
    "name", ["connection_made", "data_received", "eof_received", "pause_writing", "resume_writing"]
)
@pytest.mark.parametrize("how", ["close", "abort", "close and abort", "write and close"])
@pytest.mark.parametrize("keep_open", [False, True])
def test_closing_from_within_a_callback(run, kind, wire, name, how, keep_open):
    if kind == "asyncio" and name == "resume_writing":
        pytest.skip("asyncio calls connection_lost twice")

    async def main():
        def act(protocol, *args):
            del protocol.hooks[name]  # it may be called again, for the reply just below
            if how == "write and close":
                protocol.transport.write(REPLY)
            for step in how.split(" and "):
                if step != "write":
                    getattr(protocol.transport, step)()
            assert protocol.transport.is_closing()
            assert not protocol.lost_with, "connection_lost from within"

        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder(keep_open, **{name: act}))
        if name != "connection_made":
            await bring_about(name, a, theirs)
        reading = asyncio.create_task(asyncio.to_thread(read_all_there_is, theirs))
        assert await a.lost() is None
        received = await reading
        if how == "write and close":
            assert received.endswith(REPLY)
        assert name in a.calls
        theirs.close()

    run(main)


def read_all_there_is(sock):
    data = bytearray()
    try:
        while chunk := sock.recv(1 << 18):
            data += chunk
    except ConnectionResetError:
        pass
    return bytes(data)


def test_close_in_connection_made_of_a_connection_that_has_data_waiting(run, wire):
    async def main():
        ours, theirs = pair(wire)
        theirs.sendall(b"unread")
        a = await open_end(
            ours, Recorder(connection_made=lambda protocol: protocol.transport.close())
        )
        assert await a.lost() is None
        assert a.calls == ["connection_made", "connection_lost"]
        theirs.close()

    run(main)


def test_close_in_data_received_gives_no_more_data(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(
            ours, Recorder(data_received=lambda protocol, data: protocol.transport.close())
        )
        theirs.sendall(bytes(100_000))
        assert await a.lost() is None
        assert a.calls == ["connection_made", "data_received", "connection_lost"]
        theirs.close()

    run(main)


@pytest.mark.parametrize("how", ["abort", "close", "pause_reading", "set_protocol"])
def test_what_one_connection_does_to_another_counts_in_the_same_turn(run, wire, how):
    """Both are readable; the first to be served deals with the other, which hears no more."""

    async def main():
        heard, later = [], Recorder()

        def deal(protocol, data):
            heard.append(protocol)
            other = b if protocol is a else a
            if how == "set_protocol":
                later.connection_made(other.transport)
                other.transport.set_protocol(later)
            else:
                getattr(other.transport, how)()

        ends = [pair(wire), pair(wire)]
        a = await open_end(ends[0][0], Recorder(data_received=deal))
        b = await open_end(ends[1][0], Recorder(data_received=deal))
        for _, peer in ends:
            peer.sendall(b"data")
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(heard) == 1
        if how == "set_protocol":
            assert later.data == b"data"
        for protocol in (a, b):
            protocol.transport.abort()
        for protocol in (heard[0], later if how == "set_protocol" else b if heard[0] is a else a):
            await protocol.lost()
        for _, peer in ends:
            peer.close()

    run(main)


class Mine(Exception):
    pass


def raise_mine(*args):
    raise Mine


@pytest.mark.parametrize("name", ["data_received", "eof_received"])
def test_an_error_in_a_callback_of_reading_ends_the_connection(run, trouble, wire, name):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder(**{name: raise_mine}))
        await bring_about(name, a, theirs)
        assert isinstance(await a.lost(), Mine)
        assert theirs.recv(10) == b""
        theirs.close()

    run(main)
    [context] = trouble.take()
    assert isinstance(context["exception"], Mine)
    assert name in context["message"]
    assert context["transport"]
    assert isinstance(context["protocol"], Recorder)


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
def test_an_error_in_a_callback_of_writing_is_told_and_the_connection_goes_on(
    run, trouble, wire, name
):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder(**{name: raise_mine}))
        written = fill(a)
        reading = asyncio.create_task(asyncio.to_thread(read_to_end, theirs))
        await a.until(lambda: "resume_writing" in a.calls)
        a.transport.write(b"goes on")
        a.transport.close()
        assert len(await reading) == written + 7
        assert await a.lost() is None
        theirs.close()

    run(main)
    [context] = trouble.take()
    assert isinstance(context["exception"], Mine)
    assert context["message"] == f"protocol.{name}() failed"


def test_an_error_in_connection_made_is_told_and_the_connection_goes_on(run, trouble, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder(connection_made=raise_mine))
        theirs.sendall(b"goes on")
        assert await a.received(7) == b"goes on"
        a.transport.close()
        assert await a.lost() is None
        theirs.close()

    run(main)
    [context] = trouble.take()
    assert isinstance(context["exception"], Mine)


def test_an_error_in_connection_lost_is_told_and_the_descriptor_is_closed(run, trouble, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder(connection_lost=raise_mine))
        a.transport.close()
        await a.lost()
        assert await asyncio.to_thread(theirs.recv, 10) == b""
        assert ours.fileno() == -1
        theirs.close()

    run(main)
    [context] = trouble.take()
    assert isinstance(context["exception"], Mine)


@pytest.mark.parametrize(
    "name", ["connection_made", "data_received", "eof_received", "connection_lost"]
)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_and_exit_leave_the_loop_from_any_callback(loop, wire, name, error):
    """And the loop, the connection and the others can go on."""

    def leave(protocol, *args):
        protocol.hooks.clear()
        if name == "eof_received":  # it was not finished, and may be called again
            protocol.calls.remove(name)
        raise error

    async def main():
        await open_end(ours, a)
        if name == "connection_lost":
            a.transport.close()
        await bring_about(name, a, theirs)
        await asyncio.Event().wait()

    async def after():
        b = await open_end(other, Recorder())
        other_peer.sendall(b"another connection")
        await b.received(18)
        b.transport.close()
        await b.lost()
        if a.transport is not None and not a.lost_with:
            a.transport.abort()
            await a.lost()

    ours, theirs = pair(wire)
    other, other_peer = pair(wire)
    a = Recorder(**{name: leave})
    task = loop.create_task(main())
    with pytest.raises(error):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.run_until_complete(after())
    for sock in (ours, theirs, other, other_peer):
        sock.close()


@pytest.mark.parametrize("count", [2_000, 20_000])
def test_an_interrupt_in_resume_writing_loses_nothing(loop, wire, count, kind):
    """What was still to be sent is sent when the loop runs again."""
    if kind == "asyncio" and sys.version_info >= (3, 14):
        pytest.skip("asyncio goes on writing where there is nothing left")

    def leave(protocol, *args):
        protocol.hooks.clear()
        raise KeyboardInterrupt

    async def write():
        await open_end(ours, a)
        a.transport.set_write_buffer_limits(high=20_000, low=10_000)
        a.transport.writelines(lines)
        if not a.paused:
            raise KeyboardInterrupt  # the kernel took it all
        await asyncio.Event().wait()

    async def finish():
        try:
            async with asyncio.timeout(2):
                return await asyncio.shield(reading)
        finally:
            a.transport.abort()
            await a.lost()
            theirs.close()
            await asyncio.wait([reading])
            reading.exception()
            await loop.shutdown_default_executor()

    ours, theirs = pair(wire)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    lines = [b"%098d\n" % n for n in range(count)]
    a = Recorder(resume_writing=leave)
    reading = asyncio.ensure_future(
        loop.run_in_executor(None, read_exactly, theirs, sum(map(len, lines))), loop=loop
    )
    writing = loop.create_task(write())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(writing)
    writing.cancel()
    assert loop.run_until_complete(finish()) == b"".join(lines)


# Errors of the connection


def test_a_reset_is_told_to_connection_lost(run):
    async def main():
        ours, theirs = pair("tcp")
        a = await open_end(ours, Recorder())
        reset(theirs)
        assert isinstance(await a.lost(), ConnectionResetError)

    run(main)


def test_data_before_a_reset(run):
    async def main():
        ours, theirs = pair("tcp")
        a = await open_end(ours, Recorder())
        theirs.sendall(b"data")
        await a.received(4)
        a.transport.write(b"unread by the peer, so that its close is a reset")
        await asyncio.to_thread(theirs.recv, 1)
        theirs.close()
        assert isinstance(await a.lost(), ConnectionResetError)
        assert a.data == b"data"

    run(main)


def test_writing_to_a_peer_that_is_gone(run, wire):
    """The first write may pass, a later one fails; nothing is raised to the writer."""

    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder(keep_open=True))
        theirs.close()
        await a.ended()
        while not a.lost_with:
            a.transport.write(b"x" * 1000)
            a.transport.writelines([b"y" * 1000, b"z"])
            await asyncio.sleep(0)
        assert isinstance(await a.lost(), (BrokenPipeError, ConnectionResetError))

    run(main)


def test_writes_after_the_loss_are_dropped_and_at_last_logged(run, wire, caplog):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        theirs.close()
        await a.lost()
        for _ in range(10):
            a.transport.write(b"dropped")
        assert a.transport.get_write_buffer_size() == 0

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(main)
    assert "socket.send() raised exception." in caplog.messages


def test_everything_may_be_called_after_the_loss(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        theirs.close()
        await a.lost()
        transport = a.transport
        for _ in range(2):
            transport.close()
            transport.abort()
            transport.pause_reading()
            transport.resume_reading()
            transport.write(b"")
            assert transport.is_closing() is True
            assert transport.is_reading() is False
            assert transport.get_write_buffer_size() == 0
            transport.get_write_buffer_limits()
            transport.get_extra_info("peername")
            transport.get_protocol()
            repr(transport)

    run(main)


def test_write_after_write_eof_is_an_error(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        a.transport.write_eof()
        with pytest.raises(RuntimeError, match="Cannot call write\\(\\) after write_eof\\(\\)"):
            a.transport.write(b"x")
        with pytest.raises(RuntimeError, match="after write_eof\\(\\)"):
            a.transport.writelines([b"x"])
        assert theirs.recv(10) == b""
        theirs.close()
        assert await a.lost() is None

    run(main)


def test_write_after_close_is_dropped(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        a.transport.write(b"before")
        a.transport.close()
        a.transport.write_eof()
        assert await a.lost() is None
        assert await asyncio.to_thread(read_to_end, theirs) == b"before"
        theirs.close()

    run(main)


def test_write_eof_then_close(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        a.transport.write(REPLY)
        a.transport.write_eof()
        a.transport.close()
        assert await asyncio.to_thread(read_to_end, theirs) == REPLY
        assert await a.lost() is None
        theirs.close()

    run(main)


def test_abort_is_a_loss_without_error(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
        a.transport.abort()
        a.transport.abort()
        assert await a.lost() is None
        await b.lost()

    run(main)


def test_close_of_both_ends_in_one_turn(run, wire):
    async def main():
        for _ in range(50):
            ours, theirs = pair(wire)
            a, b = await open_end(ours, Recorder()), await accept_end(theirs, Recorder())
            a.transport.write(b"x")
            b.transport.write(b"y")
            a.transport.close()
            b.transport.close()
            await a.lost()
            await b.lost()

    run(main)


def test_the_descriptor_is_closed_when_connection_lost_returns(run, wire):
    """Within connection_lost the socket is open still; after it, closed, without help of any
    collector."""
    import gc

    async def main():
        inside = []
        ours, theirs = pair(wire)
        a = await open_end(
            ours,
            Recorder(
                connection_lost=lambda protocol, exc: inside.append(
                    protocol.transport.get_extra_info("socket").fileno()
                )
            ),
        )
        number = ours.fileno()
        gc.disable()
        try:
            a.transport.close()
            await a.lost()
        finally:
            gc.enable()
        assert inside == [number]
        assert ours.fileno() == -1
        assert theirs.recv(1) == b""
        theirs.close()

    run(main)


def test_an_unclosed_transport_warns_and_lets_its_socket_go(run, wire):
    import gc

    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        loop = asyncio.get_running_loop()
        return a, theirs, loop

    with pytest.warns(ResourceWarning, match="unclosed"):
        drop(run, main)
        gc.collect()


def drop(run, main):
    a, theirs, _ = run(main)
    theirs.close()
    a.transport = None


def test_a_transport_that_was_lost_is_let_go(run, wire):
    """No cycle keeps protocol and transport once the connection is over."""
    import gc
    import weakref

    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        transport = weakref.ref(a.transport)
        theirs.close()
        await a.lost()
        protocol = weakref.ref(a)
        del a
        await asyncio.sleep(0)
        gc.collect()
        return protocol(), transport()

    assert run(main) == (None, None)


@pytest.mark.parametrize("end", ["client", "server"])
def test_closing_the_loop_with_connections_open(kind, wire, end):
    """Their sockets are let go; nothing crashes, later calls raise or do nothing."""
    import gc
    import warnings

    from .loops import new_loop

    loop = new_loop(kind)
    ours, theirs = pair(wire)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        start = open_end if end == "client" else accept_end
        a = loop.run_until_complete(start(ours, Recorder()))
        a.transport.write(bytes(10_000_000))
        loop.close()
        for name in ("abort", "close"):
            try:
                getattr(a.transport, name)()
            except RuntimeError as error:
                assert "closed" in str(error)  # noqa: PT017
        repr(a.transport)
        ours.close()
        theirs.close()
        del a
        gc.collect()
