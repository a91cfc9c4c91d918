"""call_soon_threadsafe: nothing lost, nothing out of order, the loop asleep or awake."""

import asyncio
import contextvars
import os
import random
import signal
import threading
import time

import pytest

from .loops import new_loop
from .test_callbacks import turn, var

THREADS, CALLS = 8, 20_000


@pytest.mark.heavy
def test_no_call_is_lost_and_each_thread_keeps_its_order(loop):
    """The loop sleeps and works by turns while eight threads call in."""
    seen = [[] for _ in range(THREADS)]
    total = 0

    def arrive(thread, n):
        nonlocal total
        seen[thread].append(n)
        total += 1
        if total == THREADS * CALLS:
            loop.stop()

    def call(thread):
        rng = random.Random(thread)
        for n in range(CALLS):
            loop.call_soon_threadsafe(arrive, thread, n)
            if rng.random() < 0.005:
                time.sleep(rng.random() / 2000)  # let the loop run dry and go to sleep

    def work(n):
        if n:
            loop.call_soon(work, n - 1)
        else:
            loop.call_later(0.002, work, 50)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(THREADS)]
    loop.call_soon(work, 50)
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert seen == [list(range(CALLS))] * THREADS


def test_a_call_wakes_a_loop_that_is_just_going_to_sleep(loop):
    """Ping-pong with no timer set: one wake-up lost and the test hangs."""
    rounds = 3_000
    pong = threading.Event()
    rng = random.Random(3)

    def ping():
        for n in range(rounds):
            spin_until = time.perf_counter() + rng.random() * 5e-5
            while time.perf_counter() < spin_until:  # land anywhere about the moment of sleep
                pass
            loop.call_soon_threadsafe(pong.set if n < rounds - 1 else loop.stop)
            if n < rounds - 1:
                pong.wait()
                pong.clear()

    thread = threading.Thread(target=ping)
    thread.start()
    loop.run_forever()
    thread.join()


def test_two_threads_waking_at_the_same_moment(loop):
    """The flag that spares the second write must not be taken down by the first one's wake-up."""
    rounds = 1_000
    barrier = threading.Barrier(3)

    def call():
        for _ in range(rounds):
            barrier.wait()
            loop.call_soon_threadsafe(arrived.append, 1)

    def driver():
        for _ in range(rounds):
            barrier.wait()
            loop.call_soon_threadsafe(arrived.append, 1)
        for thread in threads:
            thread.join()
        loop.call_soon_threadsafe(loop.stop)

    arrived = []
    threads = [threading.Thread(target=call) for _ in range(2)]
    last = threading.Thread(target=driver)
    for thread in [*threads, last]:
        thread.start()
    loop.run_forever()
    last.join()
    assert len(arrived) == 3 * rounds


def test_futures_cross_threads_both_ways(run):
    async def main():
        loop = asyncio.get_running_loop()

        async def double(n):
            await asyncio.sleep(0)
            return 2 * n

        def ask(n):
            return asyncio.run_coroutine_threadsafe(double(n), loop).result(20)

        return await asyncio.gather(*(asyncio.to_thread(ask, n) for n in range(200)))

    assert run(main) == [2 * n for n in range(200)]


def test_calls_made_while_the_loop_does_not_run_wait_for_it(loop):
    seen = []
    for n in range(3):
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, n))
        thread.start()
        thread.join()
    turn(loop)
    assert seen == [0, 1, 2]
    turn(loop)
    loop.call_soon_threadsafe(seen.append, 3)
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    assert seen == [0, 1, 2, 3]


def test_calls_from_the_loops_own_thread_keep_order_with_call_soon(loop):
    seen = []
    for n in range(100):
        (loop.call_soon if n % 2 else loop.call_soon_threadsafe)(seen.append, n)
    turn(loop)
    assert seen == list(range(100))


def test_the_callers_context_is_kept(loop):
    seen = []

    def call():
        var.set("of the thread")
        loop.call_soon_threadsafe(lambda: seen.append(var.get()))
        context = contextvars.copy_context()
        context.run(var.set, "given")
        loop.call_soon_threadsafe(lambda: seen.append(var.get()), context=context)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=call)
    thread.start()
    loop.run_forever()
    thread.join()
    assert seen == ["of the thread", "given"]


def test_a_thread_may_stop_the_loop(loop):
    for _ in range(50):
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
        thread.start()
        loop.run_forever()
        thread.join()


def test_a_call_that_raises_is_told_to_the_handler(loop, trouble):
    seen = []
    loop.call_soon_threadsafe(lambda: 1 / 0)
    loop.call_soon_threadsafe(seen.append, 1)
    turn(loop)
    assert seen == [1]
    assert isinstance(trouble.take()[0]["exception"], ZeroDivisionError)


def test_a_call_may_be_cancelled(loop):
    seen = []
    handles = [loop.call_soon_threadsafe(seen.append, n) for n in range(3)]
    handles[1].cancel()
    turn(loop)
    assert seen == [0, 2]


def test_a_signal_handler_may_call_in(loop):
    """It runs in the main thread in the middle of the wait, which must then end."""
    got = []
    before = signal.signal(
        signal.SIGUSR1, lambda *_: loop.call_soon_threadsafe(lambda: (got.append(1), loop.stop()))
    )
    try:
        for _ in range(50):
            sender = threading.Timer(0.001, os.kill, (os.getpid(), signal.SIGUSR1))
            sender.start()
            loop.run_forever()
            sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(got) == 50


def test_a_closed_loop_refuses_calls(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_soon_threadsafe(print)


def test_calls_may_race_with_close(kind):
    """All that may happen is the error a closed loop gives."""
    for _ in range(30):
        loop = new_loop(kind)
        errors = []
        ready = threading.Barrier(3)

        def call(loop=loop, errors=errors, ready=ready):
            ready.wait()
            try:
                while True:
                    loop.call_soon_threadsafe(lambda: None)
            except RuntimeError as error:
                errors.append(str(error))

        threads = [threading.Thread(target=call) for _ in range(2)]
        for thread in threads:
            thread.start()
        ready.wait()
        for _ in range(3):
            turn(loop)
        loop.close()
        for thread in threads:
            thread.join()
        assert errors == ["Event loop is closed"] * 2


def test_a_flood_from_a_thread_does_not_starve_the_loop(loop):
    """Timers and stop come through while another thread keeps the queue full."""
    over = threading.Event()

    def flood():
        while not over.is_set():
            for _ in range(100):
                loop.call_soon_threadsafe(lambda: None)
            time.sleep(0.0001)

    thread = threading.Thread(target=flood)
    thread.start()
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    over.set()
    thread.join()
