"""Running, stopping and closing a loop, and every misuse that asyncio answers with an error."""

import asyncio
import gc
import logging
import socket
import sys
import threading
import warnings
import weakref

import pytest

from .loops import new_loop
from .test_callbacks import fail, turn

# stop


def test_stop_before_run_runs_one_turn(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.call_soon, seen.append, 2)
    loop.stop()
    loop.run_forever()
    assert seen == [1]
    turn(loop)
    assert seen == [1, 2]


def test_stop_lets_the_turn_finish(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, 2)
    loop.call_soon(loop.call_soon, seen.append, 3)
    loop.run_forever()
    assert seen == [1, 2]
    assert not loop.is_running()
    turn(loop)
    assert seen == [1, 2, 3]


def test_stop_twice_is_stop_once(loop):
    seen = []
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_soon(seen.append, 1)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert seen == [1]


def test_stop_still_serves_what_is_due(loop):
    """The turn that stops polls once, as any other."""
    seen = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        loop.add_reader(ours, lambda: seen.append(ours.recv(1)))
        loop.call_later(0, seen.append, "timer")
        turn(loop)
        loop.remove_reader(ours)
    assert sorted(seen, key=str) == [b"x", "timer"]


# Misuse of a running loop


FORGETS = "run_forever of asyncio 3.13.0, refused, forgets that the loop runs"


@pytest.fixture
def nested(loop, kind):
    """What a refused second run leaves is checked on loops that refuse it without harm."""
    if kind == "asyncio" and sys.version_info[:3] == (3, 13, 0):
        pytest.skip(FORGETS)
    return loop


def test_a_running_loop_cannot_be_run_forever(nested):
    seen = []

    def again():
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            nested.run_forever()
        seen.append(asyncio.get_running_loop())
        seen.append(nested.is_running())

    nested.call_soon(again)
    turn(nested)
    assert seen == [nested, True]


def test_a_running_loop_cannot_be_run_until_complete(loop):
    seen = []

    async def nothing():
        pass

    def again():
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            loop.run_until_complete(coroutine)
        seen.append(asyncio.get_running_loop())
        seen.append(loop.is_running())

    coroutine = nothing()
    loop.call_soon(again)
    turn(loop)
    coroutine.close()
    assert seen == [loop, True]


def test_another_loop_cannot_be_run_inside(kind, loop):
    other, errors = new_loop(kind), []

    def run_other():
        with pytest.raises(RuntimeError, match="while another loop is running"):
            other.run_forever()
        errors.append(1)

    loop.call_soon(run_other)
    turn(loop)
    assert errors == [1]
    turn(other)
    other.close()


def test_a_loop_that_runs_in_another_thread_cannot_be_run(nested):
    loop = nested
    running = threading.Event()
    loop.call_soon(running.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    running.wait()
    assert loop.is_running()
    with pytest.raises(RuntimeError, match="already running"):
        loop.run_forever()
    with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
        loop.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    turn(loop)


def test_a_running_loop_cannot_be_closed(loop, trouble):
    seen = []
    loop.call_soon(loop.close)
    loop.call_soon(seen.append, "goes on")
    turn(loop)
    [context] = trouble.take()
    assert isinstance(context["exception"], RuntimeError)
    assert str(context["exception"]) == "Cannot close a running event loop"
    assert seen == ["goes on"]
    assert not loop.is_closed()


def test_a_coroutine_that_closes_the_loop_gets_the_error(loop):
    async def main():
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            asyncio.get_running_loop().close()
        await asyncio.sleep(0)
        return "goes on"

    assert loop.run_until_complete(main()) == "goes on"


# run_until_complete


def test_run_until_complete_returns_or_raises(loop):
    async def main(error=None):
        await asyncio.sleep(0)
        if error:
            raise error
        return 42

    assert loop.run_until_complete(main()) == 42
    with pytest.raises(ValueError, match="mine"):
        loop.run_until_complete(main(ValueError("mine")))
    future = loop.create_future()
    loop.call_soon(future.set_result, 7)
    assert loop.run_until_complete(future) == 7
    assert loop.run_until_complete(future) == 7


def test_run_until_complete_stopped_too_early(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed"):
        loop.run_until_complete(future)
    loop.call_soon(future.set_result, "later")
    assert loop.run_until_complete(future) == "later"


def test_run_until_complete_refuses_what_is_not_awaitable(loop):
    with pytest.raises(TypeError):
        loop.run_until_complete(42)


def test_run_until_complete_refuses_a_future_of_another_loop(kind, loop):
    other = new_loop(kind)
    with pytest.raises(ValueError, match="belongs to a different loop"):
        loop.run_until_complete(other.create_future())
    other.close()


def test_exit_in_a_task_leaves_run_until_complete(loop):
    async def main():
        await asyncio.sleep(0)
        raise SystemExit(5)

    with pytest.raises(SystemExit) as caught:
        loop.run_until_complete(main())
    assert caught.value.code == 5
    turn(loop)


# The state around a run


def test_the_running_loop_is_known_inside_and_forgotten_outside(loop):
    seen = []
    loop.call_soon(lambda: seen.append(asyncio.get_running_loop()))
    loop.call_soon(lambda: seen.append(loop.is_running()))
    turn(loop)
    assert seen == [loop, True]
    assert not loop.is_running()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, SystemExit])
def test_hooks_of_async_generators_are_put_back(loop, error):
    marks = (lambda agen: None, lambda agen: None)
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(*marks)
    try:
        inside = []
        loop.call_soon(lambda: inside.append(sys.get_asyncgen_hooks().firstiter))
        loop.call_soon(loop.stop if error is None else lambda: fail(error()))
        if error is None:
            loop.run_forever()
        else:
            with pytest.raises(error):
                loop.run_forever()
        assert inside[0] is not marks[0]
        assert tuple(sys.get_asyncgen_hooks()) == marks
    finally:
        sys.set_asyncgen_hooks(*before)


def test_an_async_generator_left_half_way_is_finished_by_the_loop(run):
    finished = []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            finished.append(True)

    async def main():
        async for _ in numbers():
            break
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        kept.append(numbers())
        await anext(kept[0])
        return list(finished)

    kept = []
    assert run(main) == [True]
    assert finished == [True, True]  # the second by shutdown_asyncgens


def test_coroutine_origin_tracking_is_put_back(loop):
    loop.set_debug(True)
    inside = []
    loop.call_soon(lambda: inside.append(sys.get_coroutine_origin_tracking_depth()))
    turn(loop)
    assert inside[0] > 0
    assert sys.get_coroutine_origin_tracking_depth() == 0


# close


def test_a_closed_loop_refuses_work(loop):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def nothing():
        pass

    coroutine = nothing()
    loop.close()
    loop.close()
    assert loop.is_closed()
    assert not loop.is_running()
    calls = [
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_later(-1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.call_soon_threadsafe(print),
        loop.run_forever,
        lambda: loop.run_until_complete(coroutine),
        lambda: loop.run_in_executor(None, print),
        lambda: loop.add_reader(ours, print),
        lambda: loop.add_writer(ours, print),
        lambda: loop.create_task(coroutine),
    ]
    with ours, theirs, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a coroutine made and never awaited
        for call in calls:
            with pytest.raises(RuntimeError, match="Event loop is closed"):
                call()
        assert loop.remove_reader(ours) is False
        assert loop.remove_writer(ours) is False
        loop.stop()
        loop.time()
        assert "closed=True" in repr(loop)
        coroutine.close()


def test_a_closed_loop_refuses_network_work(loop):
    async def ask(awaitable):
        return await awaitable

    loop.close()
    for make in (
        lambda: loop.create_connection(asyncio.Protocol, "127.0.0.1", 1),
        lambda: loop.getaddrinfo("localhost", 1),
    ):
        coroutine = make()
        with pytest.raises(RuntimeError, match=r"closed|running"):
            coroutine.send(None)
        coroutine.close()


def test_close_forgets_readers_and_signals_nothing_else(loop, descriptors):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, print)
        loop.add_writer(ours, print)
        loop.close()
        theirs.send(b"still ours")
        assert ours.recv(20) == b"still ours"


def test_close_leaves_no_descriptor(kind, descriptors):
    before = descriptors()
    for _ in range(20):
        loop = new_loop(kind)
        turn(loop)
        loop.close()
    assert descriptors().keys() == before.keys()


def test_many_loops_in_one_process(kind):
    loops = [new_loop(kind) for _ in range(50)]
    seen = []
    for n, loop in enumerate(loops):
        loop.call_soon(seen.append, n)
    for loop in reversed(loops):
        turn(loop)
    for loop in loops:
        loop.close()
    assert seen == list(reversed(range(50)))


def test_loops_in_many_threads(kind):
    results = []

    async def work(n):
        _, writer = await asyncio.open_connection(sock=pairs[n][0])
        writer.write(b"%d" % n)
        writer.write_eof()
        data = await asyncio.get_running_loop().sock_recv(pairs[n][1], 100)
        await asyncio.sleep(0.001)
        writer.close()
        await writer.wait_closed()
        return int(data)

    def main(n):
        with asyncio.Runner(loop_factory=lambda: new_loop(kind)) as runner:
            results.append(runner.run(work(n)))

    pairs = [socket.socketpair() for _ in range(8)]
    for pair in pairs:
        pair[1].setblocking(False)
    threads = [threading.Thread(target=main, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pair in pairs:
        pair[1].close()
    assert sorted(results) == list(range(8))


def test_a_loop_never_closed_warns_and_lets_go(kind, descriptors):
    before = descriptors()
    loops = [new_loop(kind)]
    turn(loops[0])
    ref = weakref.ref(loops[0])

    def drop():
        loops.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        drop()
    assert ref() is None
    assert descriptors().keys() == before.keys()


@pytest.mark.parametrize("holds", ["timer", "callback", "reader", "transport", "task"])
def test_a_loop_never_closed_is_found_by_the_collector(kind, descriptors, holds):
    """What is queued or watched leads back to the loop, and must not hide it."""

    async def wait(loop):
        await asyncio.Event().wait()

    def make():
        loop = new_loop(kind)
        ours, theirs = socket.socketpair()
        if holds == "timer":
            loop.call_later(1000, loop.stop)
        elif holds == "callback":
            loop.call_soon(loop.stop)
        elif holds == "reader":
            loop.add_reader(ours, loop.stop)
            loop.ours = ours
        elif holds == "transport":
            loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
        elif holds == "task":
            loop.task = loop.create_task(wait(loop))
            turn(loop)
        if holds not in ("reader", "transport"):
            ours.close()
        theirs.close()
        return weakref.ref(loop)

    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unclosed this and that: true
        logger = logging.getLogger("asyncio")
        logger.disabled = True  # a task destroyed while pending: true as well
        try:
            ref = make()
            for _ in range(3):
                gc.collect()
        finally:
            logger.disabled = False
    assert ref() is None
    assert descriptors().keys() == before.keys()


def test_a_closed_loop_is_let_go(kind):
    """A loop, its queue and its descriptors make no cycle that outlives close."""
    loop = new_loop(kind)
    loop.call_later(1000, loop.stop)
    loop.call_soon(loop.time)
    turn(loop)
    loop.close()
    ref = weakref.ref(loop)
    del loop
    gc.collect()
    assert ref() is None


def test_shutdown_default_executor(loop):
    async def main():
        names = {await loop.run_in_executor(None, lambda: threading.current_thread().name)}
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="Executor shutdown"):
            loop.run_in_executor(None, print)
        return names

    assert loop.run_until_complete(main()).pop().startswith("asyncio")


def test_the_loop_is_of_the_standard_classes(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert repr(loop).startswith("<")
    assert "running=False" in repr(loop)
    loop.mine = "attributes may be set"
    assert loop.mine
