"""Random schedules of two ends: nothing is lost, and the contract holds through every end."""

import asyncio

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .wire import Recorder, accept_end, open_end, pair, pattern, small_buffers

SCHEDULES = settings(
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
end = st.sampled_from("ab")
size = st.one_of(st.integers(0, 300), st.integers(0, 300_000))
lossless = st.lists(
    st.tuples(
        end,
        st.one_of(
            st.tuples(st.just("write"), size),
            st.tuples(st.just("write then change"), size),
            st.tuples(st.just("writelines"), st.lists(size, max_size=5)),
            st.tuples(st.just("pause"), st.none()),
            st.tuples(st.just("resume"), st.none()),
            st.tuples(st.just("eof"), st.none()),
            st.tuples(st.just("limits"), st.integers(0, 1000)),
            st.tuples(st.just("turns"), st.integers(1, 4)),
            st.tuples(st.just("wait"), st.none()),
        ),
    ),
    max_size=25,
)


class Side:
    """One end of a connection as a model: what it wrote, whether it ended."""

    def __init__(self, protocol, kind):
        self.protocol = protocol
        self.sent = bytearray()
        self.ended = False
        # asyncio keeps views of what it was given, never gets rid of an empty last line, and
        # reports the end again after a pause.
        self.asyncio = kind == "asyncio"

    def chunk(self, size):
        return pattern(size, len(self.sent))

    async def do(self, what, argument, peer):
        transport = self.protocol.transport
        if what in ("write", "write then change", "writelines"):
            if self.ended:
                with pytest.raises(RuntimeError, match="after write_eof"):
                    transport.write(b"late")
                return
            if what == "writelines":
                chunks = [self.chunk(size) for size in argument if size or not self.asyncio]
                transport.writelines(chunks)
                self.sent += b"".join(chunks)
                return
            chunk = self.chunk(argument)
            self.sent += chunk
            if what == "write" or self.asyncio:
                transport.write(chunk)
            else:
                buffer = bytearray(chunk)
                transport.write(buffer)
                buffer[:] = bytes(len(buffer))
        elif what == "pause":
            if not (self.asyncio and "eof_received" in self.protocol.calls):
                transport.pause_reading()
        elif what == "resume":
            transport.resume_reading()
        elif what == "eof":
            transport.write_eof()
            self.ended = True
        elif what == "limits":
            transport.set_write_buffer_limits(high=argument)
        elif what == "turns":
            for _ in range(argument):
                await asyncio.sleep(0)
        elif what == "wait" and self.protocol.transport.is_reading():
            await self.protocol.received(len(peer.sent))


@pytest.mark.parametrize("tiny", [False, True], ids=["roomy", "tiny"])
def test_random_schedules_lose_nothing(run, kind, wire, tiny):
    """Any order of writes, pauses and half-closes at both ends: bytes in are bytes out."""

    async def main(operations):
        ours, theirs = pair(wire)
        if tiny:
            small_buffers(ours, theirs)
        a = await open_end(ours, Recorder(keep_open=True))
        b = await accept_end(theirs, Recorder(keep_open=True))
        sides = {"a": Side(a, kind), "b": Side(b, kind)}
        for who, (what, argument) in operations:
            peer = sides["b" if who == "a" else "a"]
            await sides[who].do(what, argument, peer)
        for side in sides.values():
            side.protocol.transport.resume_reading()
            side.protocol.transport.write_eof()
        assert await b.ended() == sides["a"].sent
        assert await a.ended() == sides["b"].sent
        assert not a.lost_with
        assert not b.lost_with
        for side in (a, b):
            side.transport.close()
        assert await a.lost() is None
        assert await b.lost() is None

    @given(lossless)
    @settings(SCHEDULES, max_examples=40)
    def check(operations):
        run(main, operations, timeout=10)

    check()


chaotic = st.lists(
    st.tuples(
        end,
        st.one_of(
            st.tuples(st.just("write"), size),
            st.tuples(st.just("write"), size),
            st.tuples(st.just("pause"), st.none()),
            st.tuples(st.just("resume"), st.none()),
            st.tuples(st.just("eof"), st.none()),
            st.tuples(st.just("close"), st.none()),
            st.tuples(st.just("abort"), st.none()),
            st.tuples(st.just("turns"), st.integers(1, 4)),
        ),
    ),
    max_size=15,
)


def test_random_schedules_with_close_and_abort_keep_the_contract(run, kind, wire):
    """What arrives is a beginning of what was sent; connection_lost comes once, and last."""

    async def main(operations, keep_open):
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder(keep_open))
        b = await accept_end(theirs, Recorder(keep_open))
        protocols, sent = {"a": a, "b": b}, {"a": bytearray(), "b": bytearray()}
        for who, (what, argument) in operations:
            transport = protocols[who].transport
            if what == "write":
                chunk = pattern(argument, len(sent[who]))
                try:
                    transport.write(chunk)
                except RuntimeError as error:
                    assert "write_eof" in str(error)  # noqa: PT017
                else:
                    sent[who] += chunk
            elif what in ("pause", "resume"):
                if kind != "asyncio" or "eof_received" not in protocols[who].calls:
                    getattr(transport, f"{what}_reading")()
            elif what == "eof":
                try:
                    transport.write_eof()
                except OSError:  # asyncio lets shutdown(2)'s error out where the peer is gone
                    assert kind == "asyncio"
            elif what in ("close", "abort"):
                getattr(transport, what)()
                assert transport.is_closing()
            else:
                for _ in range(argument):
                    await asyncio.sleep(0)
        for protocol in (a, b):
            protocol.transport.resume_reading()
        if not (a.transport.is_closing() or b.transport.is_closing()):
            a.transport.close()
        for me, peer in ((a, b), (b, a)):
            await asyncio.sleep(0)
            if me.transport.is_closing() and not peer.lost_with:
                peer.transport.close()
        for protocol in (a, b):
            if kind != "asyncio" or not protocol.lost_with:  # lost, its abort may raise
                protocol.transport.abort()
            assert isinstance(await protocol.lost(), (OSError, type(None)))
        assert sent["a"].startswith(b.data)
        assert sent["b"].startswith(a.data)

    @given(chaotic, st.booleans())
    @settings(SCHEDULES, max_examples=100)
    def check(operations, keep_open):
        run(main, operations, keep_open, timeout=10)

    check()
