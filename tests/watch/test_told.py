"""What a stall tells beyond its line: where the time went, who waits for whom, what has no line."""

from __future__ import annotations

import asyncio
import ctypes
import re
import signal
import threading
import time
from collections.abc import Callable

import pytest

import neverblock
from neverblock.watch import Stall, Watch, report

THRESHOLD = 0.05


def stalls(block: Callable[[], object], *, signal: int | None = 0) -> list[Stall]:
    """What is told of a callback."""
    found: list[Stall] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(block)
        while not (found and found[-1].over):
            await asyncio.sleep(0.005)

    neverblock.run(main(), watch=Watch(threshold=THRESHOLD, signal=signal, on_stall=found.append))
    return found


def first() -> None:
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        pass


def second() -> None:
    re.match(r"(a+)+$", "a" * 25 + "b")


def both() -> None:
    first()
    second()


def test_the_end_tells_where_the_time_went() -> None:
    ended = stalls(both)[-1]
    places = {sample.stack[0].function for sample in ended.samples if sample.stack}
    functions = {place.function for sample in ended.samples for place in sample.stack}
    assert {"first", "second", "both"} <= functions, places
    assert sum(sample.seconds for sample in ended.samples) == pytest.approx(ended.duration)
    assert sum(sample.count for sample in ended.samples) > 4
    assert re.search(r"\d+ % at \S+:\d+ in (?:first|second), \d+ % at", report.text(ended))


def test_a_sleep_takes_one_line() -> None:
    ended = stalls(lambda: time.sleep(0.4))[-1]
    assert len(ended.samples) == 1
    assert ended.samples[0].stack == ended.stack
    assert " % at " not in report.text(ended)


def test_without_samples_the_line_has_all_of_the_time() -> None:
    ended = stalls(lambda: time.sleep(0.4), signal=None)[-1]
    [sample] = ended.samples
    assert (sample.stack, sample.seconds) == (ended.stack, ended.duration)


@pytest.mark.parametrize("seconds", [0.4])
def test_a_callback_without_python_code_is_named(seconds: float) -> None:
    found: list[Stall] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(time.sleep, seconds)
        while len(found) < 2:
            await asyncio.sleep(0.005)

    neverblock.run(main(), watch=Watch(threshold=THRESHOLD, on_stall=found.append))
    assert found[0].place is None
    assert found[0].callback == "time.sleep"
    assert found[0].cause == "sleeping"
    assert "counting: time.sleep, a callback without Python code" in report.text(found[0])


def test_one_that_holds_the_gil_is_told_all_the_same() -> None:
    found: list[Stall] = []
    pattern = re.compile(r"(a+)+$")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(pattern.match, "a" * 25 + "b")
        while len(found) < 2:
            await asyncio.sleep(0.005)

    neverblock.run(main(), watch=Watch(threshold=THRESHOLD, on_stall=found.append))
    assert found[0].place is None
    assert "a callback without Python code" in report.text(found[0])


def test_coroutines_that_wait_for_one_another_are_told() -> None:
    found: list[Stall] = []

    async def load() -> None:
        time.sleep(0.4)

    async def handle() -> None:
        await load()

    async def main() -> None:
        await handle()
        while len(found) < 2:
            await asyncio.sleep(0.005)

    neverblock.run(main(), watch=Watch(threshold=THRESHOLD, on_stall=found.append))
    names = [place.function.rpartition(".")[2] for place in found[0].chain]
    assert names == ["main", "handle", "load"]
    assert re.search(r"await chain: \S*main \(.*\) → \S*handle \(", report.text(found[0]))


def test_the_call_at_work_is_underlined_where_there_are_several() -> None:
    def block() -> None:
        _ = [len("wält"), time.sleep(0.4), len("")]

    began = stalls(block)[0]
    source, marks = report.text(began).splitlines()[1:3]
    start = marks.index("^")
    assert source[start : start + marks.count("^")] == "time.sleep(0.4)"
    assert began.place is not None
    assert began.place.column is not None


def test_a_call_of_the_c_library_is_not_cut_short() -> None:
    libc = ctypes.CDLL(None)
    left: list[int] = []
    found = stalls(lambda: left.append(libc.sleep(1)))
    assert left == [0]
    assert found[-1].duration > 0.9
    assert sum(sample.count for sample in found[-1].samples) > 2


def test_a_reporter_that_waits_for_a_lock_has_the_gil_all_the_same(
    capfd: pytest.CaptureFixture[str],
) -> None:
    held = threading.Lock()
    found: list[Stall] = []

    def told(stall: Stall) -> None:
        with held:
            found.append(stall)

    async def main() -> None:
        with held:
            for _ in range(3):
                time.sleep(0.3)
                await asyncio.sleep(0)
        while len(found) < 2:
            await asyncio.sleep(0.005)

    neverblock.run(main(), watch=Watch(threshold=THRESHOLD, on_stall=told))
    assert "GIL held" not in capfd.readouterr().err


def test_a_reporter_that_waits_keeps_nobody_from_looking() -> None:
    held = threading.Lock()
    found: list[Stall] = []

    def told(stall: Stall) -> None:
        with held:
            found.append(stall)

    def sleeps() -> None:
        time.sleep(0.5)
        time.sleep(0.5)

    async def main() -> None:
        with held:
            time.sleep(0.3)
            await asyncio.sleep(0)
            sleeps()
            await asyncio.sleep(0)
        while len(found) < 4:
            await asyncio.sleep(0.005)

    neverblock.run(main(), watch=Watch(threshold=THRESHOLD, on_stall=told))
    lines = {sample.stack[0].line for sample in found[-1].samples if sample.stack}
    assert len(lines) == 2


def test_a_thread_that_blocks_every_signal_is_watched_as_well() -> None:
    def block() -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            second()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    found = stalls(block)
    assert found[0].place is not None
    assert found[0].place.function == "second"
