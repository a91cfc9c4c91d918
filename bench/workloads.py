"""The scheduling workloads: each does `n` operations on the running loop.

A workload is one coroutine function `(loop, n)`, registered by `@workload`. None leaves its core
idle: there is always a callback to run or a thread to hand over to.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Run = Callable[[asyncio.AbstractEventLoop, int], Awaitable[None]]


@dataclass(frozen=True)
class Workload:
    """`step` is the number of operations a run of it comes in multiples of."""

    name: str
    run: Run
    step: int


WORKLOADS: dict[str, Workload] = {}


def workload(name: str, *, step: int = 1) -> Callable[[Run], Run]:
    def register(run: Run) -> Run:
        WORKLOADS[name] = Workload(name, run, step)
        return run

    return register


def nothing() -> None:
    pass


@workload("call_soon chain")
async def call_soon_chain(loop: asyncio.AbstractEventLoop, n: int) -> None:
    """A callback that schedules itself: one callback a turn."""
    done = loop.create_future()
    left = n

    def callback() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(callback)
        else:
            done.set_result(None)

    loop.call_soon(callback)
    await done


@workload("call_soon batch", step=1000)
async def call_soon_batch(loop: asyncio.AbstractEventLoop, n: int) -> None:
    """1,000 callbacks scheduled at once, then run in one turn."""
    for _ in range(n // 1000):
        done = loop.create_future()
        for _ in range(999):
            loop.call_soon(nothing)
        loop.call_soon(done.set_result, None)
        await done


@workload("timers create+cancel", step=1000)
async def timers_create_cancel(loop: asyncio.AbstractEventLoop, n: int) -> None:
    """1,000 timers of 30 seconds made, then all cancelled: what timeouts that never fire cost."""
    for _ in range(n // 1000):
        handles = [loop.call_later(30.0, nothing) for _ in range(1000)]
        for handle in handles:
            handle.cancel()
        await asyncio.sleep(0)


@workload("timers fire", step=10_000)
async def timers_fire(loop: asyncio.AbstractEventLoop, n: int) -> None:
    """10,000 timers of random delays below a millisecond: nearly all due once they are made."""
    source = random.Random(1)
    delays = [source.uniform(1e-5, 1e-3) for _ in range(10_000)]
    for _ in range(n // 10_000):
        done = loop.create_future()
        left = len(delays)

        def fire() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)  # noqa: B023 (awaited within this iteration)

        for delay in delays:
            loop.call_later(delay, fire)
        await done


@workload("sleep(0)")
async def sleep_zero(loop: asyncio.AbstractEventLoop, n: int) -> None:
    """One task that yields to the loop."""
    for _ in range(n):
        await asyncio.sleep(0)


@workload("task spawn (gather)", step=100)
async def task_spawn(loop: asyncio.AbstractEventLoop, n: int) -> None:
    """100 tasks gathered at a time; each ends at once."""

    async def child() -> None:
        pass

    for _ in range(n // 100):
        await asyncio.gather(*[child() for _ in range(100)])


@workload("queue ping-pong")
async def queue_ping_pong(loop: asyncio.AbstractEventLoop, n: int) -> None:
    """Round trips between two tasks over two queues."""
    there: asyncio.Queue[int] = asyncio.Queue()
    back: asyncio.Queue[int] = asyncio.Queue()

    async def answer() -> None:
        for _ in range(n):
            await back.put(await there.get())

    answering = asyncio.create_task(answer())
    for number in range(n):
        await there.put(number)
        await back.get()
    await answering


@workload("asyncio.timeout")
async def timeout(loop: asyncio.AbstractEventLoop, n: int) -> None:
    """A timeout of 30 seconds around one yield."""
    for _ in range(n):
        async with asyncio.timeout(30):
            await asyncio.sleep(0)


@workload("threadsafe wake")
async def threadsafe_wake(loop: asyncio.AbstractEventLoop, n: int) -> None:
    """Round trips: a thread wakes the sleeping loop, the callback wakes the waiting thread."""
    done = loop.create_future()
    answered = threading.Lock()
    answered.acquire()

    def ask() -> None:
        for _ in range(n):
            loop.call_soon_threadsafe(answered.release)
            answered.acquire()
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=ask)
    thread.start()
    await done
    thread.join()


@workload("to_thread")
async def to_thread(loop: asyncio.AbstractEventLoop, n: int) -> None:
    """Round trips to a worker thread of the default executor."""
    for _ in range(n):
        await asyncio.to_thread(nothing)
