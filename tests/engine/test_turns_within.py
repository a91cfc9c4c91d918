"""A protocol that takes a turn itself, by loop._run_once(), as some that wait in plain code do."""

import asyncio

import pytest

from .wire import Recorder, accept_end, open_end, pair, read_exactly

pytestmark = pytest.mark.ours("asyncio's transports cannot run within themselves")


def pause(protocol):
    """What is unsent now is above the mark: when it is sent, resume_writing comes."""
    protocol.transport.set_write_buffer_limits(high=0)
    protocol.transport.set_write_buffer_limits()


class Writers:
    """Connections, what was written on each, and what each of them does in resume_writing."""

    def __init__(self, resume):
        self.resume = resume
        self.ends = [pair("unix") for _ in range(5)]
        self.written = {}

    async def start(self):
        for ours, _ in self.ends:
            protocol = await open_end(ours, Recorder(resume_writing=self.resume))
            self.written[protocol] = b""

    def write(self, text):
        for number, protocol in enumerate(self.written):
            data = b"%s %d " % (text, number)
            self.written[protocol] += data
            protocol.transport.write(data)

    async def check(self):
        for (_, theirs), written in zip(self.ends, self.written.values(), strict=True):
            assert await asyncio.to_thread(read_exactly, theirs, len(written)) == written

    async def close(self):
        for protocol in self.written:
            protocol.transport.close()
            await protocol.lost()
        for _, theirs in self.ends:
            theirs.close()


def test_what_is_written_around_a_turn_within_a_flush_arrives(run):
    async def main():
        loop = asyncio.get_running_loop()

        def resume(protocol):
            protocol.hooks.clear()
            writers.write(b"before")
            loop._run_once()
            writers.write(b"after")

        writers = Writers(resume)
        await writers.start()
        writers.write(b"first")
        for protocol in writers.written:
            pause(protocol)
        await writers.check()
        assert all("resume_writing" in protocol.calls for protocol in writers.written)
        before = loop.statistics()["turns"]
        await asyncio.sleep(0.1)
        assert loop.statistics()["turns"] - before < 10, "it sleeps, since nothing is to be done"
        await writers.close()

    run(main)


def test_an_interrupt_after_a_turn_within_a_flush_loses_nothing(loop):
    def resume(protocol):
        for each in writers.written:
            each.hooks.clear()
        loop._run_once()
        writers.write(b"after")
        raise KeyboardInterrupt

    async def begin():
        await writers.start()
        writers.write(b"first")
        for protocol in writers.written:
            pause(protocol)
        await asyncio.Event().wait()

    async def end():
        await writers.check()
        await writers.close()
        await loop.shutdown_default_executor()

    writers = Writers(resume)
    beginning = loop.create_task(begin())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(beginning)
    beginning.cancel()
    loop.run_until_complete(asyncio.wait_for(end(), 30))


def test_what_is_left_of_a_flush_is_sent_by_a_turn_within(run):
    """Else who waits in there for the answer would wait for good."""

    async def main():
        loop = asyncio.get_running_loop()

        def wait_for_the_answer(protocol):
            while not (asking.data or gave_up):
                loop._run_once()

        def answer(protocol, data):
            protocol.transport.write(b"answer")

        gave_up = []
        limit = loop.call_later(20, gave_up.append, True)
        waiting_end, idle = pair("unix")
        waiting = await open_end(waiting_end, Recorder(resume_writing=wait_for_the_answer))
        asking_end, answering_end = pair("unix")
        asking = await open_end(asking_end, Recorder())
        answering = await accept_end(answering_end, Recorder(data_received=answer))
        waiting.transport.write(b"first in the flush")
        pause(waiting)
        asking.transport.write(b"question")
        await asyncio.sleep(0)
        assert await asking.received(6) == b"answer"
        assert not gave_up
        limit.cancel()
        for protocol in (waiting, asking, answering):
            protocol.transport.close()
            await protocol.lost()
        idle.close()

    run(main)


@pytest.mark.parametrize("wanted", [2, 20])
def test_a_protocol_is_served_within_its_own_callback(run, wire, wanted):
    async def main():
        loop = asyncio.get_running_loop()

        def more(protocol, data):
            if len(protocol.data) < wanted:
                protocol.transport.write(bytes(protocol.data))
                theirs.sendall(b"x")
                before = len(protocol.data)
                while len(protocol.data) == before:
                    loop._run_once()

        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder(data_received=more))
        theirs.sendall(b"x")
        assert await a.received(wanted) == b"x" * wanted
        echoed = sum(range(1, wanted))
        assert await asyncio.to_thread(read_exactly, theirs, echoed) == b"x" * echoed
        a.transport.close()
        await a.lost()
        theirs.close()

    run(main)
