"""Tasks on the loop: factories of every kind, eager tasks, cancellation, executors."""

import asyncio
import concurrent.futures
import contextvars
import sys
import threading

import pytest

eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of 3.12")
number = contextvars.ContextVar("number", default=0)


async def double(n):
    await asyncio.sleep(0)
    return 2 * n


@eager
def test_eager_tasks(run):
    async def quick():
        order.append("quick")
        return 1

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(quick())
        order.append("after create")
        assert task.done()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(double(n), name=f"task {n}") for n in range(100)]
        assert [task.result() for task in tasks] == [2 * n for n in range(100)]
        assert tasks[7].get_name() == "task 7"
        return await task

    order = []
    assert run(main) == 1
    assert order == ["quick", "after create"]


@eager
def test_eager_tasks_see_their_context(run):
    async def read():
        return number.get()

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        context = contextvars.copy_context()
        context.run(number.set, 7)
        number.set(3)
        return (
            await asyncio.create_task(read()),
            await asyncio.create_task(read(), context=context),
            await loop.create_task(read(), name="named"),
        )

    assert run(main) == (3, 7, 3)


def test_a_factory_of_two_arguments(run):
    async def main():
        loop = asyncio.get_running_loop()

        def factory(loop, coro, **kwargs):
            made.append(coro.__name__)
            return asyncio.Task(coro, loop=loop, **kwargs)

        loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory
        result = await asyncio.create_task(double(4))
        loop.set_task_factory(None)
        assert await asyncio.create_task(double(5)) == 10
        return result

    made = []
    assert run(main) == 8
    assert made == ["double"]


def test_tasks_take_turns(run):
    seen = []

    async def count(name):
        for n in range(3):
            seen.append((name, n))
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(count("a"), count("b"), count("c"))

    run(main)
    assert seen == [(name, n) for n in range(3) for name in "abc"]


def test_cancellation(run):
    async def main():
        seen = []

        async def sleeper():
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError as error:
                seen.append(error.args)
                raise

        task = asyncio.create_task(sleeper())
        await asyncio.sleep(0)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(100), 0.001)
        async with asyncio.timeout(None):
            pass
        return seen

    assert run(main) == [("why",)]


def test_tasks_left_over_are_cancelled_by_run(run):
    seen = []

    async def left():
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async def main():
        main.task = asyncio.create_task(left())
        await asyncio.sleep(0)
        return "done"

    assert run(main) == "done"
    assert seen == ["cancelled"]


def test_executors(run):
    async def main():
        loop = asyncio.get_running_loop()
        own = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="mine")
        try:
            name = await loop.run_in_executor(own, lambda: threading.current_thread().name)
            assert name.startswith("mine")
            results = await asyncio.gather(
                *(loop.run_in_executor(own, pow, n, 2) for n in range(200))
            )
            assert results == [n * n for n in range(200)]
            with pytest.raises(ZeroDivisionError):
                await loop.run_in_executor(None, lambda: 1 / 0)
            number.set(9)
            assert await asyncio.to_thread(number.get) == 9
        finally:
            own.shutdown()
        other = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="default")
        loop.set_default_executor(other)
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert name.startswith("default")
        assert loop._default_executor is other  # read by libraries in the wild

    run(main)


def test_an_executor_wakes_a_sleeping_loop(run):
    """Nothing else is going on: each result must wake the loop by itself."""

    async def main():
        for n in range(300):
            assert await asyncio.to_thread(lambda n=n: n) == n

    run(main)


def test_names_are_resolved(run):
    async def main():
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo("localhost", 80, type=1)
        assert {info[4][0] for info in found} & {"127.0.0.1", "::1"}
        host, service = await loop.getnameinfo(("127.0.0.1", 80), 3)
        assert (host, service) == ("127.0.0.1", "80")
        with pytest.raises(OSError):
            await loop.getaddrinfo("no-such-name.invalid", 80)

    run(main)


def test_queues_locks_and_events(run):
    async def main():
        queue, lock, seen = asyncio.Queue(3), asyncio.Lock(), []

        async def producer(name):
            for n in range(50):
                await queue.put((name, n))

        async def consumer():
            while True:
                item = await queue.get()
                async with lock:
                    seen.append(item)
                    await asyncio.sleep(0)
                queue.task_done()

        consumers = [asyncio.create_task(consumer()) for _ in range(3)]
        await asyncio.gather(*(producer(name) for name in "abc"))
        await queue.join()
        for task in consumers:
            task.cancel()
        return seen

    seen = run(main)
    assert len(seen) == 150
    for name in "abc":
        assert sorted(n for who, n in seen if who == name) == list(range(50))
