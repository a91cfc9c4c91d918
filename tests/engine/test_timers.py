"""call_later and call_at: order, batches, cancellation, odd delays, and what cancelled timers keep.

Most tests set `loop.time` to a clock of their own, which a loop must honour: so deadlines are
exact and nothing waits.
"""

import asyncio
import math
import random
import threading
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .loops import new_loop
from .test_callbacks import turn


class Clock:
    def __init__(self, loop):
        self.loop = loop
        self.now = 1000.0
        loop.time = lambda: self.now

    def advance(self, seconds):
        self.now += seconds
        turn(self.loop)


@pytest.fixture
def clock(loop):
    return Clock(loop)


def test_timers_fire_in_the_order_of_their_deadlines(loop, clock):
    seen, delays = [], list(range(1, 2_001))
    random.Random(1).shuffle(delays)
    for delay in delays:
        loop.call_later(delay, seen.append, delay)
    for _ in range(20):
        clock.advance(50)
    clock.advance(1000)
    assert seen == sorted(delays)


def test_all_timers_due_are_one_batch(loop, clock):
    seen = []
    loop.call_later(3, seen.append, 3)
    loop.call_later(1, seen.append, 1)
    loop.call_later(2, lambda: (seen.append(2), loop.call_later(0, seen.append, "next turn")))
    clock.advance(5)
    assert seen == [1, 2, 3]
    clock.advance(0)
    assert seen == [1, 2, 3, "next turn"]


def test_a_batch_is_queued_behind_what_is_ready(loop, clock):
    seen = []
    loop.call_later(1, seen.append, "timer")
    loop.call_soon(seen.append, "ready")
    clock.advance(1)
    assert seen == ["ready", "timer"]


@pytest.mark.ours("asyncio's heap is not stable")
def test_timers_with_one_deadline_fire_in_the_order_they_were_made(loop, clock):
    seen, expected = [], []
    for n in range(1_000):
        loop.call_at(clock.now + n % 3, seen.append, (n % 3, n))
        expected.append((n % 3, n))
    clock.advance(3)
    assert seen == sorted(expected)


def test_a_timer_cancelled_by_an_earlier_one_of_its_batch_does_not_run(loop, clock):
    seen = []
    loop.call_later(1, lambda: late.cancel())
    late = loop.call_later(2, seen.append, "cancelled")
    loop.call_later(3, seen.append, "kept")
    clock.advance(5)
    assert seen == ["kept"]
    assert late.cancelled()


def test_a_callback_cancelled_by_an_earlier_one_of_its_turn_does_not_run(loop):
    seen = []
    loop.call_soon(lambda: late.cancel())
    late = loop.call_soon(seen.append, "cancelled")
    loop.call_soon(seen.append, "kept")
    turn(loop)
    assert seen == ["kept"]


def test_cancel_before_within_and_after(loop, clock):
    seen = []

    def within():
        handles[1].cancel()
        seen.append("within")

    handles = [
        loop.call_later(1, seen.append, "before"),
        loop.call_later(1, within),
        loop.call_later(1, seen.append, "after"),
    ]
    handles[0].cancel()
    handles[0].cancel()
    clock.advance(1)
    handles[2].cancel()
    for _ in range(3):
        clock.advance(1)
    assert sorted(seen) == ["after", "within"]
    assert [handle.cancelled() for handle in handles] == [True, True, True]


def test_when_tells_the_deadline(loop, clock):
    assert loop.call_at(1234.5, print).when() == 1234.5
    assert loop.call_later(10, print).when() == clock.now + 10
    assert loop.call_at(5000, print).when() == 5000


@pytest.mark.parametrize("delay", [0, -0.0, -1, -1e9, 0.0, False, -math.inf])
def test_a_delay_of_zero_or_less_fires_on_the_next_turn(loop, clock, delay):
    seen = []
    loop.call_later(delay, seen.append, 1)
    assert not seen
    clock.advance(0)
    assert seen == [1]


def test_a_delay_that_is_no_number_at_all_does_not_stop_the_others(loop):
    """nan compares with nothing: a heap must not be led astray by it."""
    seen, handles = [], []
    for n in range(30):
        loop.call_later(n / 2000, seen.append, n)
    for _ in range(3):
        try:
            handles.append(loop.call_later(math.nan, lambda: None))
        except ValueError:
            pass  # to refuse it is as good
    for n in range(30, 40):
        loop.call_later(n / 2000, seen.append, n)
    if handles:
        handles[0].cancel()
    loop.call_later(0.03, loop.stop)
    alarm = threading.Timer(2, loop.call_soon_threadsafe, (loop.stop,))
    alarm.start()
    loop.run_forever()
    alarm.cancel()
    alarm.join()
    assert sorted(seen) == list(range(40))
    for handle in handles:
        handle.cancel()


@pytest.mark.parametrize("delay", [1e9, 1e18, 1e300, math.inf, 2**40])
def test_a_very_long_delay_is_waited_for_without_ado(loop, delay):
    seen = []
    handle = loop.call_later(delay, seen.append, "never")
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    handle.cancel()
    turn(loop)
    assert not seen


def test_a_very_long_delay_alone_still_lets_the_loop_wait(loop):
    handle = loop.call_later(1e300, print)
    thread = threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,))
    thread.start()
    loop.run_forever()
    thread.join()
    handle.cancel()


def test_delays_that_are_numbers_of_other_kinds(loop, clock):
    seen = []
    loop.call_later(Fraction(1, 2), seen.append, "fraction")
    loop.call_later(True, seen.append, "bool")
    loop.call_later(2, seen.append, "int")
    clock.advance(2)
    assert seen == ["fraction", "bool", "int"]


@pytest.mark.parametrize("delay", [None, "1", b"2", [], object()])
def test_what_is_not_a_number_is_refused(loop, delay):
    with pytest.raises(TypeError):
        loop.call_later(delay, print)
        turn(loop)  # asyncio finds out some of them here


def test_call_at_refuses_none(loop):
    with pytest.raises(TypeError):
        loop.call_at(None, print)


def test_a_timer_never_fires_early(loop):
    """A wait in whole milliseconds must be rounded up, never down."""
    early = []

    def fire(when):
        now = loop.time()
        if now + 1e-6 < when:
            early.append(when - now)

    for n in range(200):
        when = loop.time() + n * 0.00037
        loop.call_at(when, fire, when)
    loop.call_later(0.08, loop.stop)
    loop.run_forever()
    assert not early


def test_a_short_sleep_does_not_turn_the_loop_over_and_over(loop):
    """A wait rounded down to nothing would spin until the deadline."""
    turns, time = 0, loop.time

    def counted():
        nonlocal turns
        turns += 1
        return time()

    loop.time = counted
    for n in range(20):
        loop.call_later(0.0007 * n, lambda: None)
    loop.call_later(0.0153, loop.stop)
    loop.run_forever()
    assert turns < 500


def test_what_is_left_after_most_timers_were_cancelled_fires_in_order(loop, clock):
    rng = random.Random(2)
    seen = []
    handles = {n: loop.call_later(n, seen.append, n) for n in rng.sample(range(1, 50_000), 20_000)}
    kept = set(rng.sample(sorted(handles), 1_000))
    for n, handle in handles.items():
        if n not in kept:
            handle.cancel()
    for _ in range(10):
        clock.advance(5_000)
    assert seen == sorted(kept)


def test_cancelling_while_cancelled_timers_are_swept_out(loop, clock):
    """Sweeps run while more are made and cancelled, from within callbacks."""
    seen = []

    def churn(n):
        handles = [loop.call_later(100 + i, seen.append, "never") for i in range(300)]
        for handle in handles[1:]:
            handle.cancel()
        seen.append(n)
        if n < 20:
            loop.call_later(1, churn, n + 1)
        handles[0].cancel()

    loop.call_later(1, churn, 0)
    for _ in range(25):
        clock.advance(1)
    clock.advance(1000)
    assert seen == list(range(21))


def test_a_patched_clock_drives_sleep_and_timeouts(loop, clock):
    async def main():
        sleeper = asyncio.ensure_future(asyncio.sleep(3600, "slept"))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100):
                loop.call_soon(lambda: setattr(clock, "now", clock.now + 101))
                await asyncio.sleep(1000)
        loop.call_soon(lambda: setattr(clock, "now", clock.now + 3600))
        return await sleeper

    def keep_turning():  # else the loop would wait in real time for a deadline of the clock's
        loop.call_soon(keep_turning)

    loop.call_soon(keep_turning)
    assert loop.run_until_complete(main()) == "slept"


def test_nested_timeouts_due_together(run):
    """The outer one is queued in the batch of the inner one, and so sees it cancelled."""

    async def main():
        for delay in (-1, 0, 0.001):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(delay) as outer:
                    async with asyncio.timeout(delay) as inner:
                        await asyncio.sleep(10)
            assert outer.expired() or inner.expired()
            assert asyncio.current_task().cancelling() == 0

    run(main)


# Against a model

delays = st.integers(0, 8)
actions = st.one_of(
    st.none(),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("schedule"), delays),
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("later"), delays, actions),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("advance"), st.integers(0, 6)),
    ),
    max_size=60,
)


@given(operations)
@settings(max_examples=150, database=None)
def check_against_model(kind, operations):
    loop = new_loop(kind)
    clock = Clock(loop)
    # asyncio does not order equal deadlines: give it none.
    apart = 1e-6 if kind == "asyncio" else 0.0
    handles, deadlines, acts = [], [], []
    pending, cancelled, seen, expected = set(), set(), [], []

    def fire(n):
        seen.append(n)
        do(acts[n])

    def schedule(delay, act):
        n = len(handles)
        when = clock.now + delay + n * apart
        acts.append(act)
        deadlines.append(when)
        pending.add(n)
        handles.append(loop.call_at(when, fire, n))

    def do(act):
        if act is None:
            return
        if act[0] == "schedule":
            schedule(act[1], None)
        elif act[1] < len(handles):
            cancelled.add(act[1])
            handles[act[1]].cancel()

    for operation in operations:
        if operation[0] == "later":
            schedule(operation[1], operation[2])
        elif operation[0] == "cancel":
            do(operation)
        else:
            batch = sorted(
                (n for n in pending - cancelled if deadlines[n] <= clock.now + operation[1]),
                key=lambda n: (deadlines[n], n),
            )
            pending -= set(batch)
            stopped = set(cancelled)
            for n in batch:
                if n not in stopped:
                    expected.append(n)
                    if acts[n] and acts[n][0] == "cancel":
                        stopped.add(acts[n][1])
            clock.advance(operation[1])
            assert seen == expected
    loop.close()


def test_timers_against_a_model(kind):
    check_against_model(kind)


@pytest.mark.heavy
@pytest.mark.memory
def test_a_million_cancelled_timers_keep_no_memory(program):
    done = program(Path(__file__).with_name("programs") / "cancelled_timers.py")
    assert done.returncode == 0, done.stderr
    growth = dict(line.split() for line in done.stdout.splitlines())
    # One handle alone is some 100 bytes, so to keep them would be 100 MB.
    assert int(growth["across_turns"]) < 12_000, growth  # KiB
    assert int(growth["second_burst"]) < 12_000, growth  # KiB
    assert int(growth["blocks_left"]) < 20_000, growth
