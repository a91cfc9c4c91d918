"""call_soon: order, arguments, contexts, exceptions, fairness, and what a callback keeps alive."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import socket
import sys
import weakref

import pytest

var = contextvars.ContextVar("var", default="unset")


def turn(loop):
    """Run what is ready now, and no more."""
    loop.stop()
    loop.run_forever()


@pytest.fixture
def no_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_callbacks_run_in_the_order_they_were_scheduled(loop):
    seen = []
    for n in range(10_000):
        loop.call_soon(seen.append, n)
    turn(loop)
    assert seen == list(range(10_000))


def test_a_callback_scheduled_by_a_callback_waits_for_the_next_turn(loop):
    seen = []

    def first(name):
        seen.append(name)
        loop.call_soon(seen.append, name.lower())

    loop.call_soon(first, "A")
    loop.call_soon(first, "B")
    turn(loop)
    assert seen == ["A", "B"]
    turn(loop)
    assert seen == ["A", "B", "a", "b"]


def test_the_queue_keeps_its_order_while_it_grows_and_shrinks(loop):
    """A ring that moves its contents when it grows must not turn them round."""
    seen, expected, n = [], [], 0
    for burst in (3, 100, 7, 5_000, 1, 20_000, 64, 63, 65):
        for _ in range(burst):
            loop.call_soon(seen.append, n)
            expected.append(n)
            n += 1
        if burst % 2:
            turn(loop)
    turn(loop)
    assert seen == expected


def test_the_queue_may_grow_while_it_is_being_run(loop):
    seen = []

    def spread(depth):
        seen.append(depth)
        if depth < 14:
            loop.call_soon(spread, depth + 1)
            loop.call_soon(spread, depth + 1)
        elif not loop.stopping:
            loop.stopping = True
            loop.call_soon(loop.stop)

    loop.stopping = False
    loop.call_soon(spread, 0)
    loop.run_forever()
    turn(loop)
    assert seen == sorted(seen)
    assert len(seen) == 2**15 - 1


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 20, 300])
def test_arguments_arrive_as_given(loop, count):
    seen = []
    loop.call_soon(lambda *args: seen.append(args), *range(count))
    turn(loop)
    assert seen == [tuple(range(count))]


def test_any_callable_will_do(loop):
    seen = []

    class Callable:
        def __call__(self, *args):
            seen.append(("object", *args))

        def method(self, *args):
            seen.append(("method", *args))

        @classmethod
        def of_class(cls, *args):
            seen.append(("class", *args))

        @staticmethod
        def static(*args):
            seen.append(("static", *args))

    class Made:
        def __init__(self, *args):
            seen.append(("made", *args))

    thing = Callable()
    loop.call_soon(thing, 1)
    loop.call_soon(thing.method, 2)
    loop.call_soon(Callable.of_class, 3)
    loop.call_soon(Callable.static, 4)
    loop.call_soon(Made, 5)
    loop.call_soon(functools.partial(seen.append, ("partial",)))
    loop.call_soon(functools.partial(thing, "p", "q"), "r")
    loop.call_soon(seen.append, ("builtin",))
    loop.call_soon(seen.__len__)
    loop.call_soon(list.append, seen, ("unbound",))
    turn(loop)
    assert seen == [
        ("object", 1),
        ("method", 2),
        ("class", 3),
        ("static", 4),
        ("made", 5),
        ("partial",),
        ("object", "p", "q", "r"),
        ("builtin",),
        ("unbound",),
    ]


def test_what_cannot_be_called_is_an_exception_in_the_callback(loop, trouble):
    seen = []
    loop.call_soon(42)
    loop.call_soon(seen.append, "after")
    turn(loop)
    assert seen == ["after"]
    [context] = trouble.take()
    assert isinstance(context["exception"], TypeError)


def test_wrong_arguments_are_an_exception_in_the_callback(loop, trouble):
    loop.call_soon(lambda: None, "one too many")
    loop.call_soon(lambda one: None)
    turn(loop)
    assert [type(context["exception"]) for context in trouble.take()] == [TypeError, TypeError]


def test_call_soon_itself_refuses_wrong_arguments(loop):
    with pytest.raises(TypeError):
        loop.call_soon()
    with pytest.raises(TypeError):
        loop.call_soon(print, unknown=1)
    with pytest.raises(TypeError):
        loop.call_later()
    with pytest.raises(TypeError):
        loop.call_later(1)
    with pytest.raises(TypeError):
        loop.call_at(1)


# Contexts


def test_a_callback_runs_in_a_copy_of_the_context_it_was_scheduled_in(loop):
    seen = []

    def look():
        seen.append(var.get())
        var.set("changed inside")

    def schedule():
        var.set("scheduling")
        loop.call_soon(look)
        loop.call_soon(look)  # a copy of its own: the first one's change is not seen
        loop.call_later(0, look)
        loop.call_soon_threadsafe(look)
        var.set("later")

    contextvars.copy_context().run(schedule)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert seen == ["scheduling"] * 4
    assert var.get() == "unset"


def test_a_given_context_is_used_itself(loop):
    context = contextvars.copy_context()
    context.run(var.set, "given")
    seen = []

    def look(value):
        seen.append(var.get())
        var.set(value)

    loop.call_soon(look, 1, context=context)
    loop.call_soon(look, 2, context=context)
    loop.call_soon_threadsafe(look, 3, context=context)
    turn(loop)
    loop.call_later(0, look, 4, context=context)
    loop.call_at(loop.time() + 0.001, look, 5, context=context)
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert seen == ["given", 1, 2, 3, 4]
    assert context[var] == 5
    assert var.get() == "unset"


def test_context_none_means_the_current_one(loop):
    seen = []

    def schedule():
        var.set("current")
        loop.call_soon(lambda: seen.append(var.get()), context=None)
        loop.call_later(0, lambda: seen.append(var.get()), context=None)

    contextvars.copy_context().run(schedule)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert seen == ["current"] * 2


def test_the_context_is_left_when_a_callback_raises(loop, trouble):
    context = contextvars.copy_context()
    context.run(var.set, "entered")
    seen = []
    loop.call_soon(lambda: 1 / 0, context=context)
    loop.call_soon(lambda: seen.append(var.get()))
    loop.call_soon(lambda: seen.append(var.get()), context=context)
    turn(loop)
    assert seen == ["unset", "entered"]
    assert isinstance(trouble.take()[0]["exception"], ZeroDivisionError)
    context.run(lambda: None)  # it would be refused, were it still entered


def test_the_context_is_left_when_a_callback_leaves_the_loop(loop):
    context = contextvars.copy_context()

    def leave():
        raise KeyboardInterrupt

    loop.call_soon(leave, context=context)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    context.run(lambda: None)


def test_a_context_already_entered_is_an_exception_in_the_callback(loop, trouble, caplog):
    """From 3.12 the handler should run in that context, which is refused too, and logged."""
    context = contextvars.copy_context()
    seen = []

    def run():
        loop.call_soon(seen.append, "never", context=context)
        loop.call_soon(seen.append, "after", context=contextvars.copy_context())
        turn(loop)

    context.run(run)
    assert seen == ["after"]
    told = [context["exception"] for context in trouble.take()]
    if sys.version_info < (3, 12):
        assert [type(error) for error in told] == [RuntimeError]
    assert "already entered" in caplog.text + str(told)


def test_what_is_not_a_context_does_not_crash(loop, trouble):
    """asyncio finds out when the callback runs; to be told at once is as good."""
    seen = []
    try:
        loop.call_soon(seen.append, "never", context="not a context")
    except TypeError:
        pass
    loop.call_soon(seen.append, "after")
    with contextlib.suppress(AttributeError, TypeError):
        turn(loop)
    turn(loop)
    trouble.take()
    assert seen == ["after"]


# Exceptions


def fail(error):
    raise error


class Custom(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [ValueError("v"), Custom("c"), asyncio.CancelledError(), GeneratorExit(), StopIteration()],
)
def test_an_exception_is_told_to_the_handler_and_the_rest_run(loop, trouble, error):
    seen = []
    loop.call_soon(fail, error)
    loop.call_soon(seen.append, "after")
    turn(loop)
    assert seen == ["after"]
    [context] = trouble.take()
    assert context["exception"] is error
    assert context["message"].startswith("Exception in callback fail(")
    assert not context["handle"].cancelled()


def test_an_exception_in_a_timer_is_told_to_the_handler(loop, trouble):
    loop.call_later(0, fail, ValueError("timer"))
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    [context] = trouble.take()
    assert "timer" in str(context["exception"])
    assert "fail(" in context["message"]


def test_an_exception_handler_that_raises_is_logged(loop, caplog):
    loop.set_exception_handler(lambda loop, context: 1 / 0)
    seen = []
    loop.call_soon(fail, ValueError("inner"))
    loop.call_soon(seen.append, "after")
    turn(loop)
    assert seen == ["after"]
    assert "Unhandled error in exception handler" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_without_a_handler_an_exception_is_logged_with_its_traceback(loop, caplog):
    loop.set_exception_handler(None)
    loop.call_soon(fail, ValueError("nobody caught me"))
    turn(loop)
    assert "Exception in callback fail(" in caplog.text
    assert "ValueError: nobody caught me" in caplog.text
    assert __file__ in caplog.text


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Handle.get_context is of 3.12")
def test_the_exception_handler_runs_in_the_context_of_the_callback(loop):
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append(var.get()))
    context = contextvars.copy_context()
    context.run(var.set, "of the callback")
    loop.call_soon(fail, ValueError(), context=context)
    loop.call_later(0, fail, ValueError(), context=context)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert seen == ["of the callback"] * 2


@pytest.mark.parametrize("error", [KeyboardInterrupt("k"), SystemExit(3)])
def test_interrupt_and_exit_leave_run_forever_and_the_rest_stay_queued(loop, error):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(fail, error)
    loop.call_soon(seen.append, 2)
    loop.call_later(0, seen.append, "timer")
    with pytest.raises(type(error)) as caught:
        loop.run_forever()
    assert caught.value is error
    assert seen == [1]
    assert not loop.is_running()
    assert not loop.is_closed()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    loop.call_soon(seen.append, 3)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert sorted(seen, key=str) == [1, 2, 3, "timer"]
    assert seen.index(2) < seen.index(3)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_and_exit_leave_from_a_timer_and_from_a_reader(loop, error):
    seen = []
    loop.call_later(0, fail, error())
    with pytest.raises(error):
        loop.run_forever()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        loop.add_reader(ours, fail, error())
        with pytest.raises(error):
            loop.run_forever()
        loop.add_reader(ours, lambda: (seen.append(ours.recv(1)), loop.stop()))
        loop.run_forever()
        loop.remove_reader(ours)
    assert seen == [b"x"]


def test_interrupt_leaves_run_until_complete(loop):
    async def main():
        loop.call_soon(fail, KeyboardInterrupt())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "finished"

    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    assert not loop.is_running()
    assert loop.run_until_complete(task) == "finished"


# Fairness: a chain of callbacks that never ends starves nobody


def spin(loop):
    """Schedule itself for ever; the list returned tells it to stop when it is filled."""
    stop = []

    def again():
        if not stop:
            loop.call_soon(again)

    loop.call_soon(again)
    return stop


def test_a_reader_is_served_while_callbacks_spin(loop):
    ours, theirs = socket.socketpair()
    stop = spin(loop)
    with ours, theirs:
        for n in range(20):
            loop.add_reader(ours, loop.stop)
            theirs.send(b"x")
            loop.run_forever()
            assert ours.recv(1) == b"x", n
        loop.remove_reader(ours)
    stop.append(True)


def test_a_writer_is_served_while_callbacks_spin(loop):
    ours, theirs = socket.socketpair()
    stop = spin(loop)
    with ours, theirs:
        loop.add_writer(ours, loop.stop)
        loop.run_forever()
        loop.remove_writer(ours)
    stop.append(True)


def test_timers_fire_while_callbacks_spin(loop):
    seen = []
    stop = spin(loop)
    for n in range(20):
        loop.call_later(n / 1000, seen.append, n)
    loop.call_later(0.03, loop.stop)
    loop.run_forever()
    stop.append(True)
    assert seen == list(range(20))


def test_connections_are_served_while_callbacks_spin(run):
    async def main():
        loop = asyncio.get_running_loop()
        stop = spin(loop)

        async def echo(reader, writer):
            writer.write(await reader.readexactly(5))
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        for _ in range(5):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()
        server.close()
        stop.append(True)

    run(main)


def test_callbacks_and_timers_run_while_descriptors_are_always_ready(loop):
    """Readiness that is never consumed comes back every turn; the others have their turn too."""
    seen, reads = [], 0
    pairs = [socket.socketpair() for _ in range(50)]

    def never_read():
        nonlocal reads
        reads += 1

    for ours, theirs in pairs:
        theirs.send(b"x")
        loop.add_reader(ours, never_read)

    def chain(n):
        seen.append(n)
        if n < 50:
            loop.call_soon(chain, n + 1)
        else:
            loop.call_later(0.001, loop.stop)

    loop.call_soon(chain, 0)
    loop.run_forever()
    for ours, theirs in pairs:
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
    assert seen == list(range(51))
    assert reads >= 50


def test_readiness_queues_behind_what_is_ready(loop):
    seen = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, lambda: (seen.append("reader"), ours.recv(1), loop.stop()))
        theirs.send(b"x")
        for n in range(5):
            loop.call_soon(seen.append, n)
        loop.run_forever()
        loop.remove_reader(ours)
    assert seen == [0, 1, 2, 3, 4, "reader"]


# What a callback keeps alive


class Thing:
    def __call__(self, *args):
        pass

    def fail(self, *args):
        raise ValueError


def marked_context(thing):
    context = contextvars.copy_context()
    context.run(var.set, thing)
    return context


def schedule_weakly(loop, how):
    """Schedule a callback whose callable, argument and context nobody else holds."""
    callback, argument, in_context = Thing(), Thing(), Thing()
    context = marked_context(in_context)
    if how == "soon":
        handle = loop.call_soon(callback, argument, context=context)
    elif how == "later":
        handle = loop.call_later(0, callback, argument, context=context)
    elif how == "far":
        handle = loop.call_later(1000, callback, argument, context=context)
    elif how == "threadsafe":
        handle = loop.call_soon_threadsafe(callback, argument, context=context)
    elif how == "raises":
        handle = loop.call_soon(callback.fail, argument, context=context)
    return handle, [weakref.ref(thing) for thing in (callback, argument, in_context)]


def alive(refs):
    return [
        name for name, ref in zip(("callback", "argument", "context"), refs, strict=True) if ref()
    ]


@pytest.mark.parametrize("how", ["soon", "later", "threadsafe"])
def test_a_callback_that_ran_keeps_nothing(loop, no_gc, how):
    handle, refs = schedule_weakly(loop, how)
    del handle
    still = []
    loop.call_later(0.001, lambda: (still.extend(alive(refs)), loop.stop()))
    loop.run_forever()
    assert not still


@pytest.mark.ours("asyncio's handles keep their callback until they go themselves")
@pytest.mark.parametrize("how", ["soon", "later", "threadsafe", "raises"])
def test_a_handle_held_after_its_run_keeps_nothing(loop, no_gc, how):
    loop.set_exception_handler(lambda loop, context: None)
    handle, refs = schedule_weakly(loop, how)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert not alive(refs)
    assert not handle.cancelled()


@pytest.mark.parametrize("how", ["soon", "later", "far", "threadsafe"])
def test_a_cancelled_handle_drops_its_callback_and_arguments_at_once(loop, no_gc, how):
    handle, refs = schedule_weakly(loop, how)
    handle.cancel()
    assert "callback" not in alive(refs)
    assert "argument" not in alive(refs)
    del handle
    turn(loop)


@pytest.mark.ours("asyncio keeps the context of a cancelled handle")
@pytest.mark.parametrize("how", ["soon", "later", "far", "threadsafe"])
def test_a_cancelled_handle_drops_its_context_at_once(loop, no_gc, how):
    handle, refs = schedule_weakly(loop, how)
    handle.cancel()
    assert not alive(refs)
    assert handle.cancelled()


@pytest.mark.parametrize("how", ["soon", "later", "far", "threadsafe"])
def test_a_closed_loop_drops_what_was_queued(loop, no_gc, how):
    handle, refs = schedule_weakly(loop, how)
    del handle
    loop.close()
    assert not alive(refs)


@pytest.mark.ours("asyncio's handles keep their callback until they go themselves")
@pytest.mark.parametrize("how", ["soon", "far"])
def test_a_handle_held_after_its_loop_closed_keeps_nothing(loop, no_gc, how):
    handle, refs = schedule_weakly(loop, how)
    loop.close()
    assert not alive(refs)
    handle.cancel()


def test_a_cycle_through_a_handle_is_broken_when_it_ran(loop, no_gc):
    thing = Thing()
    thing.handle = loop.call_soon(thing, thing)
    ref = weakref.ref(thing)
    loop.call_soon(thing.handle.cancel)
    turn(loop)
    thing.handle.cancel()
    del thing
    turn(loop)
    assert ref() is None


@pytest.mark.ours("asyncio leaves the cycle to the garbage collector")
def test_a_cycle_through_a_handle_needs_no_collector(loop, no_gc):
    things = [Thing() for _ in range(3)]
    things[0].handle = loop.call_soon(things[0], things[0])
    things[1].handle = loop.call_later(0, things[1], things[1])
    things[2].handle = loop.call_soon_threadsafe(things[2].fail, things[2])
    loop.set_exception_handler(lambda loop, context: None)
    refs = [weakref.ref(thing) for thing in things]
    del things
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert [ref() for ref in refs] == [None] * 3


def test_a_handle_in_a_cycle_dies_with_a_loop_that_was_closed(kind, trouble):
    """Handles that are not tracked by the collector must not hide a cycle from it."""
    from .loops import new_loop

    loop = new_loop(kind)
    thing = Thing()
    thing.handle = loop.call_later(1000, thing, loop, thing)
    loop.mine = thing
    thing_ref, loop_ref = weakref.ref(thing), weakref.ref(loop)
    loop.close()
    del thing, loop
    gc.collect()
    assert thing_ref() is None
    assert loop_ref() is None


@pytest.mark.ours("asyncio leaves a cycle through the traceback to the collector")
def test_an_exception_handled_keeps_nothing_afterwards(loop, no_gc):
    loop.set_exception_handler(lambda loop, context: None)
    thing = Thing()
    ref = weakref.ref(thing)
    loop.call_soon(thing.fail)
    del thing
    loop.call_soon(lambda: None)
    turn(loop)
    assert ref() is None
