"""The histograms of a loop: known loads are counted where they belong."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import neverblock
from neverblock.engine.histogram import Histogram

SLEPT = 0.05
SCHEDULED = 2_000


def over(histogram: Histogram, seconds: float) -> int:
    """How many values were certainly as long."""
    ends = zip((0.0, *histogram.bounds), histogram.counts, strict=False)
    return sum(count for lower, count in ends if lower >= seconds * 7 / 8)


def debugged(loop_factory):
    """In debug mode every callback is timed."""
    loop = loop_factory()
    loop.set_debug(True)
    loop.slow_callback_duration = 60.0
    return loop


def test_a_new_loop_has_counted_nothing(loop_factory):
    loop = loop_factory()
    statistics = loop.statistics()
    for name in ("turn_seconds", "callback_seconds", "lag_seconds", "ready_lengths"):
        histogram = statistics[name]
        assert (histogram.count, histogram.sum, histogram.max, histogram.mean) == (0, 0, 0, 0)
        assert histogram.percentile(99) == 0
    loop.close()


def test_the_lengths_of_the_ready_queue_are_exact(loop_factory):
    loop = loop_factory()
    for length in (1, 2, 5, 15, 100, 3_000):
        before = loop.statistics()["ready_lengths"]
        for _ in range(length - 1):
            loop.call_soon(lambda: None)
        loop.call_soon(loop.stop)
        loop.run_forever()
        now = loop.statistics()["ready_lengths"].since(before)
        assert (now.count, now.sum) == (1, length)
        bucket = next(bound for bound in now.bounds if bound >= length)
        assert now.counts[now.bounds.index(bucket)] == 1
        if length < 16:
            assert now.max == length
    assert loop.statistics()["ready_lengths"].max == 3_000
    loop.close()


def test_a_turn_is_as_long_as_its_callbacks_together(loop_factory):
    loop = loop_factory()
    for _ in range(3):
        loop.call_soon(time.sleep, SLEPT)
    loop.call_soon(loop.stop)
    loop.run_forever()
    turns = loop.statistics()["turn_seconds"]
    assert over(turns, 3 * SLEPT) == 1
    assert turns.max >= 3 * SLEPT
    assert turns.percentile(100) == turns.max
    loop.close()


def test_time_asleep_is_no_part_of_a_turn(loop_factory):
    loop = loop_factory()
    began = time.monotonic()
    loop.run_until_complete(asyncio.sleep(0.3))
    time.sleep(0.1)  # nor is time between runs
    loop.run_until_complete(asyncio.sleep(0))
    took = time.monotonic() - began
    turns = loop.statistics()["turn_seconds"]
    assert turns.sum <= took - 0.4
    loop.close()


def test_turns_that_ask_nothing_belong_to_the_one_before(loop_factory):
    loop = loop_factory()
    left = 10_000

    def chain() -> None:
        nonlocal left
        left -= 1
        loop.call_soon(chain if left else loop.stop)

    loop.call_soon(chain)
    loop.run_forever()
    statistics = loop.statistics()
    assert statistics["turns"] >= 10_000
    waits = statistics["multiplexer"]["waits"]
    assert statistics["turn_seconds"].count == waits < 10_000
    loop.close()


def test_callbacks_are_counted_by_length(loop_factory):
    loop = debugged(loop_factory)
    loop.call_soon(time.sleep, SLEPT)
    for _ in range(10):
        loop.call_soon(lambda: None)
    loop.call_soon(loop.stop)
    loop.run_forever()
    callbacks = loop.statistics()["callback_seconds"]
    assert callbacks.count == 12
    assert over(callbacks, SLEPT) >= 1
    assert callbacks.max >= SLEPT
    loop.close()


def test_callbacks_are_sampled_where_there_is_no_debugging(loop_factory):
    loop = loop_factory()
    turns = 64 * 200

    async def main() -> None:
        for _ in range(turns):
            loop.call_soon(lambda: None)
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    statistics = loop.statistics()
    # Gaps of 1 to 253 turns: in 100 of them, far from either end.
    assert turns / 64 / 2 < statistics["callback_seconds"].count / 2 < turns / 64 * 2
    assert statistics["lag_seconds"].count >= statistics["callback_seconds"].count / 3
    loop.close()


def test_the_lag_of_a_timer_is_since_it_was_due(loop_factory):
    loop = debugged(loop_factory)
    loop.call_soon(lambda: None)
    loop.call_later(0.001, loop.stop)
    loop.call_soon(time.sleep, SLEPT)  # it is due meanwhile
    loop.run_forever()
    assert loop.statistics()["lag_seconds"].max >= SLEPT - 0.002
    loop.close()


def test_the_lag_of_a_callback_is_what_it_waits_behind(loop_factory):
    loop = debugged(loop_factory)

    def first() -> None:
        loop.call_soon(lambda: None)
        time.sleep(SLEPT)

    loop.call_soon(first)
    loop.call_soon(loop.call_soon, time.sleep, SLEPT)
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    lags = loop.statistics()["lag_seconds"]
    assert lags.count == 3
    # The first for its scheduler's rest, the last for that of both.
    assert over(lags, SLEPT) >= 2
    assert lags.max >= SLEPT
    loop.close()


def test_the_lag_of_what_a_thread_sends_is_since_the_wake_up(loop_factory):
    loop = debugged(loop_factory)
    loop.call_later(10, loop.stop)
    asleep = threading.Event()

    def send() -> None:
        asleep.wait()
        time.sleep(0.05)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=send)
    thread.start()
    loop.call_soon(asleep.set)
    loop.run_forever()
    thread.join()
    lags = loop.statistics()["lag_seconds"]
    assert lags.count == 1
    assert lags.max < 5
    loop.close()


def test_the_lag_of_a_descriptor_is_since_the_kernel_told(loop_factory):
    loop = debugged(loop_factory)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, loop.stop)
        loop.call_soon(loop.call_soon, time.sleep, SLEPT)  # runs in the same turn, before
        theirs.send(b"!")
        loop.run_forever()
        loop.run_forever()
        loop.remove_reader(ours)
    assert loop.statistics()["callback_seconds"].count >= 3
    loop.close()


@pytest.mark.parametrize("debug", [False, True])
def test_a_callback_that_raises_is_counted_as_any(loop_factory, debug):
    loop = loop_factory()
    loop.set_debug(debug)
    told = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

    def fail() -> None:
        raise ZeroDivisionError

    for _ in range(SCHEDULED):
        loop.call_soon(fail)
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert len(told) == SCHEDULED
    statistics = loop.statistics()
    assert statistics["ready_lengths"].count == SCHEDULED
    assert statistics["callback_seconds"].count > 0
    loop.close()


def test_an_interrupt_leaves_whole_counts(loop_factory):
    loop = loop_factory()

    def leave() -> None:
        raise SystemExit

    for _ in range(SCHEDULED):
        loop.call_soon(leave)
        loop.call_soon(loop.stop)
        with pytest.raises(SystemExit):
            loop.run_forever()
        loop.run_forever()
    statistics = loop.statistics()
    assert statistics["turn_seconds"].count == statistics["ready_lengths"].count == 2 * SCHEDULED
    loop.close()


@pytest.mark.parametrize("debug", [False, True])
def test_a_turn_taken_within_a_callback(loop_factory, debug):
    """Some packages do so to wait in plain code."""
    loop = loop_factory()
    loop.set_debug(debug)
    ran: list[object] = []

    def nested() -> None:
        loop._run_once()
        ran.append("nested")

    for _ in range(SCHEDULED):
        loop.call_soon(nested)
        for number in range(3):
            loop.call_soon(ran.append, number)
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert ran == [0, 1, 2, "nested"] * SCHEDULED
    loop.close()


def test_what_comes_after_a_turn_within_a_callback_is_a_turn_too(loop_factory):
    loop = loop_factory()

    def nested() -> None:
        loop._run_once()
        time.sleep(SLEPT)

    loop.call_soon(nested)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert over(loop.statistics()["turn_seconds"], SLEPT) == 1
    loop.close()


def test_cancelled_callbacks_have_no_length(loop_factory):
    loop = debugged(loop_factory)
    for _ in range(10):
        loop.call_soon(print).cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert loop.statistics()["callback_seconds"].count == 1
    loop.close()


def test_statistics_of_a_closed_loop(loop_factory):
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert loop.statistics()["turn_seconds"].count >= 1


def test_a_loop_may_be_replaced_in_a_callback_of_its_own():
    loop = neverblock.new_event_loop()
    with pytest.raises(RuntimeError, match="running"):
        loop.run_until_complete(close(loop))
    loop.close()


async def close(loop):
    loop.close()


@given(st.lists(st.integers(0, 2**20), min_size=1), st.floats(0, 100))
def test_a_percentile_is_at_most_an_eighth_too_high(values, percent):
    from neverblock.engine.histogram import NUMBERS

    counts = [0] * len(NUMBERS)
    for value in values:
        counts[next(i for i, bound in enumerate(NUMBERS) if value <= bound)] += 1
    histogram = Histogram(NUMBERS, tuple(counts), sum(values), max(values))
    rank = max(-(-len(values) * percent // 100), 1)
    truth = sorted(values)[int(rank) - 1]
    assert truth <= histogram.percentile(percent) <= truth * 9 / 8
    assert histogram.count == len(values)
    assert histogram.at_most(max(values) * 2) == len(values)


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_what_is_no_percentage_is_refused(percent):
    with pytest.raises(ValueError, match="percent"):
        Histogram((1.0,), (0,), 0.0, 0.0).percentile(percent)
