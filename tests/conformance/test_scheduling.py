"""What suites demand of scheduling: the loop's rows of what real suites trip over.

Each test runs on asyncio's own loop first: what fails there is a wrong test.
"""

import asyncio
import contextvars
import socket
import sys
import threading
from unittest import mock

import pytest

from tests.engine.loops import new_loop

LONG = 3600.0  # seconds; a timer this far off is not waited for
EAGER = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")


@pytest.fixture
def wired_pair():
    """Two ends of a socket pair that do not block."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


def test_the_default_executor_is_told(run):
    async def main():
        loop = asyncio.get_running_loop()
        assert loop._default_executor is None
        thread = await asyncio.to_thread(threading.current_thread)
        assert thread in loop._default_executor._threads

    run(main)


class Clock:
    """A clock that can leap forward."""

    ahead = 0.0

    def leap(self):
        self.ahead = LONG + 1


def fire_by_a_leap(loop, clock):
    """A timer an hour off fires once this clock says so, not by one of the loop's own."""
    timer = loop.create_future()
    loop.call_later(LONG, timer.set_result, "fired")

    def look(turns):
        if not timer.done():
            if turns == 0:
                timer.set_result("not fired")
            loop.call_soon(look, turns - 1)

    loop.call_soon(clock.leap)
    loop.call_soon(look, 1000)
    assert loop.run_until_complete(timer) == "fired"


def test_time_replaced_on_the_loop_is_honoured(loop):
    real, clock = loop.time, Clock()
    loop.time = lambda: real() + clock.ahead
    fire_by_a_leap(loop, clock)


def test_time_patched_on_the_class_is_honoured(kind):
    loop, clock = new_loop(kind), Clock()
    real = type(loop).time
    try:
        with mock.patch.object(type(loop), "time", lambda self: real(self) + clock.ahead):
            fire_by_a_leap(loop, clock)
    finally:
        loop.close()


def test_time_overridden_in_a_subclass_is_honoured(kind):
    base = type(probe := new_loop(kind))
    probe.close()

    class Leaping(base):
        clock = Clock()

        def time(self):
            return super().time() + self.clock.ahead

    loop = Leaping()
    try:
        fire_by_a_leap(loop, loop.clock)
    finally:
        loop.close()


def test_io_callbacks_queue_behind_what_is_ready(loop, wired_pair):
    mine, other = wired_pair
    order = []

    def readable():
        order.append("io")
        loop.stop()

    def first():
        other.send(b"x")
        loop.call_soon(second)

    def second():
        order.append("ready before io")

    loop.add_reader(mine, readable)
    loop.call_soon(first)
    loop.run_forever()
    loop.remove_reader(mine)
    assert order == ["ready before io", "io"]


def test_io_callbacks_wait_for_one_turn_alone(loop, wired_pair):
    """asyncio asks the kernel in each turn; suites count on it with a few `sleep(0)` in a row."""
    mine, other = wired_pair
    order = []
    loop.add_reader(mine, lambda: (mine.recv(1), order.append("io")))

    def step(number):
        order.append(number)
        if number == 0:
            other.send(b"x")
        if number < 3:
            loop.call_soon(step, number + 1)
        else:
            loop.stop()

    loop.call_soon(step, 0)
    loop.run_forever()
    loop.remove_reader(mine)
    assert order == [0, 1, "io", 2, 3]


def test_what_is_written_arrives_after_two_rests(run):
    """As websockets' own tests demand of a connection over loopback."""

    class Note(asyncio.Protocol):
        data = b""

        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.data += data

        def connection_lost(self, exc):
            gone.set()

    async def main():
        nonlocal gone
        gone = asyncio.Event()
        ends = socket.socketpair()
        loop = asyncio.get_running_loop()
        one, two = [(await loop.create_connection(Note, sock=end))[1] for end in ends]
        arrived = []
        for _ in range(3):
            one.transport.write(b"x")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            arrived.append(len(two.data))
        one.transport.close()
        await gone.wait()
        two.transport.close()
        assert arrived == [1, 2, 3]

    gone = None
    run(main)


def test_io_callbacks_run_before_timers_of_the_same_turn(loop, wired_pair):
    mine, other = wired_pair
    order = []
    loop.add_reader(mine, lambda: (mine.recv(1), order.append("io")))

    def begin():
        other.send(b"x")
        loop.call_at(loop.time(), lambda: (order.append("timer"), loop.stop()))

    loop.call_soon(begin)
    loop.run_forever()
    loop.remove_reader(mine)
    assert order == ["io", "timer"]


def test_a_chain_of_callbacks_does_not_starve_io(loop, wired_pair):
    mine, other = wired_pair
    loop.add_reader(mine, loop.stop)

    def forever():
        loop.call_soon(forever)

    loop.call_soon(forever)
    other.send(b"x")
    loop.run_forever()
    loop.remove_reader(mine)


def test_a_chain_of_callbacks_does_not_starve_timers(loop):
    loop.call_later(0.001, loop.stop)

    def forever():
        loop.call_soon(forever)

    loop.call_soon(forever)
    loop.run_forever()


def test_timers_due_together_are_one_ordered_batch(loop):
    """What the first of them puts off runs after the last of them."""
    order = []
    due = loop.time()

    def fire(number):
        order.append(number)
        loop.call_soon(order.append, f"after {number}")

    for number in (3, 1, 4, 0, 2):
        loop.call_at(due - 10 + number, fire, number)
    loop.call_at(due, loop.stop)
    loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0))
    assert order == [0, 1, 2, 3, 4, *(f"after {number}" for number in range(5))]


def test_nested_timeouts_that_are_due_together(run):
    """The outer one wins, as it was due first."""

    async def main():
        due = asyncio.get_running_loop().time()
        caught = []
        try:
            async with asyncio.timeout_at(due + 0.001):
                try:
                    async with asyncio.timeout_at(due + 0.002):
                        while asyncio.get_running_loop().time() < due + 0.003:
                            pass
                        await asyncio.sleep(LONG)
                except asyncio.CancelledError:
                    caught.append("inner cancelled")
                    raise
        except TimeoutError:
            caught.append("outer timed out")
        assert caught == ["inner cancelled", "outer timed out"]

    run(main)


async def nothing():
    return "result"


def factory_calls(loop):
    """How this loop calls a task factory: the number of arguments, and the names of the others."""
    calls = []

    def factory(*arguments, **options):
        calls.append((len(arguments), sorted(options)))
        loop, coroutine = arguments
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory

    async def main():
        await loop.create_task(nothing())
        task = loop.create_task(nothing(), name="named")
        assert task.get_name() == "named"
        await task
        await loop.create_task(nothing(), context=contextvars.copy_context())
        await asyncio.ensure_future(nothing())

    loop.run_until_complete(main())
    loop.set_task_factory(None)
    return calls


def test_a_task_factory_is_called_as_asyncio_calls_it(loop):
    theirs = asyncio.SelectorEventLoop()
    try:
        expected = factory_calls(theirs)
    finally:
        theirs.close()
    assert factory_calls(loop) == expected


def test_a_task_factory_of_two_arguments(loop):
    made = []

    def factory(loop, coroutine, **options):
        made.append(asyncio.Task(coroutine, loop=loop, **options))
        return made[-1]

    loop.set_task_factory(factory)
    assert loop.run_until_complete(nothing()) == "result"
    assert [task.result() for task in made] == ["result"]


@EAGER
def test_eager_tasks_begin_at_once(loop):
    loop.set_task_factory(asyncio.eager_task_factory)
    order = []

    async def eager():
        order.append("begun")
        assert asyncio.current_task() is not None
        await asyncio.sleep(0)
        order.append("resumed")

    async def main():
        task = asyncio.create_task(eager())
        order.append("created")
        await task
        done = asyncio.create_task(nothing())
        assert done.done()
        assert await done == "result"

    loop.run_until_complete(main())
    assert order == ["begun", "created", "resumed"]


@EAGER
def test_an_eager_tasks_exception_is_its_own(loop):
    loop.set_task_factory(asyncio.eager_task_factory)

    async def fail():
        raise LookupError("its own")

    async def main():
        task = asyncio.create_task(fail())
        with pytest.raises(LookupError, match="its own"):
            await task

    loop.run_until_complete(main())


VARIABLE = contextvars.ContextVar("VARIABLE", default="nobody's")


@pytest.mark.parametrize("given", [False, True], ids=["callers", "given"])
def test_call_soon_threadsafe_keeps_the_context(loop, given):
    seen = loop.create_future()

    def tell():
        seen.set_result(VARIABLE.get())

    def other_thread():
        VARIABLE.set("the caller's")
        context = contextvars.copy_context()
        if given:
            VARIABLE.set("another")
            loop.call_soon_threadsafe(tell, context=context)
        else:
            loop.call_soon_threadsafe(tell)

    thread = threading.Thread(target=other_thread)
    thread.start()
    try:
        assert loop.run_until_complete(seen) == "the caller's"
    finally:
        thread.join()
    assert VARIABLE.get() == "nobody's"


def test_readers_and_writers_keep_the_context(loop, wired_pair):
    mine, other = wired_pair
    other.send(b"x")
    seen = []

    def tell(name, remove):
        seen.append((name, VARIABLE.get()))
        remove(mine)
        if len(seen) == 2:
            loop.stop()

    context = contextvars.copy_context()
    context.run(VARIABLE.set, "the watcher's")
    context.run(loop.add_reader, mine, tell, "reader", loop.remove_reader)
    context.run(loop.add_writer, mine, tell, "writer", loop.remove_writer)
    loop.run_forever()
    assert sorted(seen) == [("reader", "the watcher's"), ("writer", "the watcher's")]
