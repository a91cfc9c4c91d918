"""Many short callbacks in one turn: found while they go on, with the functions that take most."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import time
import weakref
from collections.abc import Callable

import pytest

import neverblock
from neverblock.watch import Cause, Stall, Watch, watcher

#: Far longer than a callback of these tests takes, so that only turns are told.
THRESHOLD = 30.0
TURN = 0.02
TINY = 20_000


def watched(found: list[Stall], backend: str | None = None) -> neverblock.Loop:
    return neverblock.Loop(
        backend,
        watch=Watch(threshold=THRESHOLD, turn_threshold=TURN, on_stall=found.append),
    )


def spin(seconds: float) -> None:
    """Of this thread's own time, so that a busy machine makes it no shorter."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def tiny() -> None:
    spin(1e-5)


def large() -> None:
    spin(4e-5)


async def step() -> None:
    spin(1e-5)


def run_at_once(found: list[Stall], *callbacks: Callable[[], object]) -> None:
    """One turn of all these, and the loop's end; again where the watch had no CPU meanwhile."""
    while not found:
        loop = watched(found)
        try:
            for callback in callbacks:
                loop.call_soon(callback)
            loop.call_soon(loop.stop)
            loop.run_forever()
        finally:
            loop.close()


def line_of(function: Callable[..., object]) -> int:
    return function.__code__.co_firstlineno


def test_tiny_callbacks_are_found_while_they_run(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[Stall] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        while not found:  # again where the watch had no CPU meanwhile
            for _ in range(TINY):
                loop.call_soon(tiny)
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: watched(found, backend)) as runner:
        runner.run(main())
    began, ended = found[:2]  # a second turn may have begun before the first was told
    assert (began.over, ended.over) == (False, True)
    assert began.cause == ended.cause == Cause.TURN
    assert began.is_turn
    assert began.callbacks < ended.callbacks
    # With them the task's next step.
    assert ended.callbacks == TINY + 1
    assert ended.duration >= TINY * 1e-5
    for stall in (began, ended):
        assert stall.place is not None
        assert (stall.place.file, stall.place.line) == (__file__, line_of(tiny))
        assert stall.place.function == "tiny"
        assert stall.source == "def tiny() -> None:"
    assert ended.top[0].count <= TINY
    assert ended.top[0].total >= ended.top[0].count * 1e-5
    records = [record for record in caplog.records if record.name == "neverblock.watch"]
    assert "callbacks in one turn" in records[0].getMessage()
    assert f"{TINY + 1:,} callbacks in one turn" in records[1].getMessage()
    assert vars(records[1])["stall_callbacks"] == TINY + 1
    assert vars(records[1])["stall_top"][0]["place"]["function"].endswith("tiny")


def test_who_takes_most_comes_first() -> None:
    found: list[Stall] = []
    run_at_once(found, *[tiny, large] * 3_000)
    first, second, *_ = found[-1].top
    assert (first.place.function, second.place.function) == ("large", "tiny")
    assert first.total > second.total
    # One after the other: neither is counted more often.
    assert abs(first.count - second.count) <= 1


def test_a_heavy_one_is_found_among_many_others() -> None:
    found: list[Stall] = []
    names: dict[str, object] = {"spin": spin}
    for number in range(500):
        exec(f"def each_{number}(): spin(1e-5)", names)
    others = [names[f"each_{number}"] for number in range(500)]
    run_at_once(found, *[each for other in others * 4 for each in (other, large)])  # type: ignore[list-item]
    assert found[-1].top[0].place.function == "large"


def test_kinds_of_callbacks_go_by_their_functions() -> None:
    found: list[Stall] = []

    class Object:
        def method(self) -> None:
            spin(4e-5)

        def __call__(self) -> None:
            spin(2e-5)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        one = Object()
        while not found:
            tasks = set()
            for _ in range(2_000):
                loop.call_soon(functools.partial(one.method))
                loop.call_soon(one)
                tasks.add(asyncio.create_task(step()))
                loop.call_soon(time.thread_time)
            await asyncio.wait(tasks)

    with asyncio.Runner(loop_factory=lambda: watched(found)) as runner:
        runner.run(main())
    top = max((stall for stall in found if stall.over), key=lambda stall: stall.duration).top
    names = [share.place.function.rpartition(".")[2] for share in top]
    assert set(names[:3]) == {"method", "__call__", "step"}
    assert "thread_time" in names
    assert [share.place.line > 0 for share in top] == [name != "thread_time" for name in names]


def test_a_transport_is_its_protocol(backend: str) -> None:
    found: list[Stall] = []

    class Slow(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            spin(1e-3)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Slow, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        writers = [(await asyncio.open_connection(*address))[1] for _ in range(100)]
        while not [stall for stall in found if stall.over]:
            for writer in writers:
                writer.write(b"!")
            await asyncio.sleep(0.01)
        for writer in writers:
            writer.close()
            await writer.wait_closed()
        server.close()

    with asyncio.Runner(loop_factory=lambda: watched(found, backend)) as runner:
        runner.run(main())
    place = found[0].place
    assert place is not None
    assert place.function.endswith("Slow.data_received")
    assert place.line == line_of(Slow.data_received)


def test_nothing_is_held_after_the_turn() -> None:
    found: list[Stall] = []
    gone: list[weakref.ref[object]] = []

    class Held:
        def method(self) -> None:
            spin(1e-5)

    def load(loop: asyncio.AbstractEventLoop) -> None:
        held = Held()
        gone.append(weakref.ref(held))

        def closure() -> None:
            held.method()

        gone.append(weakref.ref(closure))
        for _ in range(5_000):
            loop.call_soon(held.method)
            loop.call_soon(closure)

    async def main() -> None:
        while not any(stall.over for stall in found):
            gone.clear()
            load(asyncio.get_running_loop())
            await asyncio.sleep(0.05)

    runner = asyncio.Runner(loop_factory=lambda: watched(found))
    with runner:
        runner.run(main())
        gc.collect()
        assert [reference() for reference in gone] == [None, None]


def test_callbacks_that_raise_are_counted() -> None:
    found: list[Stall] = []

    def fail() -> None:
        spin(2e-5)
        raise ZeroDivisionError

    def quiet() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    run_at_once(found, quiet, *[fail] * 5_000)
    assert found[-1].callbacks == 5_002
    assert found[-1].top[0].place.line == line_of(fail)


def test_turns_within_a_long_turn() -> None:
    """The kernel is asked in them: each ends a part of the long one."""
    found: list[Stall] = []
    loop = watched(found)
    ran: list[int] = []

    def nested() -> None:
        spin(1e-5)
        ran.append(1)
        if len(ran) % 1000 == 0:
            loop._run_once()

    for _ in range(10_000):
        loop.call_soon(nested)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert len(ran) == 10_000
    assert all(stall.is_turn for stall in found)


def test_what_is_left_of_a_turn_after_one_within_it_is_found() -> None:
    found: list[Stall] = []

    def over() -> list[Stall]:
        return [stall for stall in found if stall.over and place_of(stall) == "tiny"]

    while not over():
        loop = watched(found)
        loop.call_soon(loop._run_once)
        for _ in range(TINY):
            loop.call_soon(loop.call_soon, tiny)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
    # With them the callback that took the turn between.
    assert over()[0].callbacks == TINY + 1


def place_of(stall: Stall) -> str:
    return stall.place.function if stall.place is not None else ""


def test_a_loop_that_is_closed_at_once_after_the_turn_has_told_it() -> None:
    found: list[Stall] = []
    run_at_once(found, *[tiny] * TINY)
    assert [stall.over for stall in found] == [False, True]
    assert found[1].callbacks == TINY + 1


def test_one_callback_that_blocks_is_no_turn() -> None:
    found: list[Stall] = []

    def sleep() -> None:
        time.sleep(0.4)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(tiny)
        loop.call_soon(sleep)
        loop.call_soon(tiny)
        await asyncio.sleep(0.05)

    neverblock.run(main(), watch=Watch(threshold=0.05, turn_threshold=0.2, on_stall=found.append))
    assert found
    assert not [stall for stall in found if stall.is_turn]


def test_a_chain_that_lets_the_loop_look_around_is_no_long_turn(backend: str) -> None:
    found: list[Stall] = []

    async def main() -> None:
        end = time.thread_time() + 0.3
        while time.thread_time() < end:
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: watched(found, backend)) as runner:
        runner.run(main())
    assert not found


def test_turns_that_come_again_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    found: list[Stall] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        while len(found) < 6:
            for _ in range(TINY // 4):
                loop.call_soon(tiny)
            await asyncio.sleep(0.05)

    with asyncio.Runner(loop_factory=lambda: watched(found)) as runner:
        runner.run(main())
    counts = [stall.count for stall in found if stall.over]
    assert counts == list(range(1, len(counts) + 1))
    assert found[-1].total >= len(counts) * TINY / 4 * 1e-5
    summary = watcher.ledger.summary()
    assert summary is not None
    assert "called many times in one turn" in summary


def test_a_threshold_that_cannot_be_had_is_refused() -> None:
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="turn_threshold"):
            Watch(turn_threshold=wrong)
    assert "turn_threshold" in inspect.signature(Watch).parameters
