"""Figures that follow from arithmetic come out of the measurement."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from neverblock.load import Distribution, Plan, run
from neverblock.load.client import Meter
from neverblock.load.distribution import LONGEST
from neverblock.load.recorder import Recorder
from tests.load.stubs import stalling, stub

SECOND = 10**9


def test_an_open_loop_sees_a_stall_as_users_do_and_a_closed_one_hardly() -> None:
    # In every second it stands still for 200 ms. What is due at a moment of that waits for the rest
    # of it: 15 % of all wait more than 50 ms, 5 % more than 150 ms. A busy machine adds to that.
    with stub(stalling(period=1.0, stall=0.2)) as address:
        target = f"tcp://{address}"
        opened = run(Plan(target=target, rate=200, connections=20, warmup=0.2, duration=3))
        closed = run(Plan(target=target, connections=1, duration=1))
    assert opened.errors == {}
    assert 0.12 <= opened.latency.above(0.05) <= 0.6
    assert opened.latency.above(0.15) >= 0.03
    assert (opened.latency.percentile(99) or 0) >= 0.17
    # One request in flight: a stall is seen once, however long it is.
    assert closed.latency.above(0.05) < opened.latency.above(0.05) / 2


@given(
    rate=st.floats(1, 1e6),
    ramp=st.floats(0, 20),
    processes=st.integers(1, 4),
    seconds=st.floats(0.001, 5),
)
def test_so_many_are_due_as_rate_and_time_say(
    rate: float, ramp: float, processes: int, seconds: float
) -> None:
    due = 0
    for index in range(processes):
        meter = Meter(
            lambda callback: callback(), lambda when, callback: None, rate, ramp, index, processes
        )
        start = 1000 * SECOND
        meter.start(start, start, start + round((ramp + seconds) * SECOND))
        due += meter.unsent()
    assert abs(due - rate * (ramp / 2 + seconds)) <= 2 + 1e-6 * due


@settings(max_examples=12)
@given(st.lists(st.integers(0, 2 * LONGEST)))
def test_what_is_recorded_is_what_hdrhistogram_would_count(times: list[int]) -> None:
    recorder = Recorder()
    for time in times:
        recorder.add(time)
    expected = Distribution.of((min(time, LONGEST), 1) for time in times)
    assert Distribution.of(recorder.recorded()) == expected
    assert recorder.total == len(times)


@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(0, LONGEST), max_size=20), max_size=4))
def test_parts_add_up_to_the_whole(parts: list[list[int]]) -> None:
    merged = Distribution()
    for part in parts:
        merged.add(Distribution(Distribution.of((time, 1) for time in part).encode()))
    assert merged == Distribution.of((time, 1) for part in parts for time in part)
