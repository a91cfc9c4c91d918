"""Forks, execs and exits of a watched process."""

from __future__ import annotations

import pytest

from tests.watch.running import program


def test_a_forked_child_has_no_watch_and_may_have_its_own() -> None:
    done = program(
        """
        import asyncio, os, time
        import neverblock

        found = []

        async def block():
            time.sleep(0.4)
            await asyncio.sleep(0.05)

        async def main():
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    threads = len(os.listdir("/proc/self/task"))
                    asyncio._set_running_loop(None)
                    neverblock.run(block(), watch=neverblock.Watch(on_stall=found.append))
                    status = 0 if threads == 1 and len(found) == 2 else 2
                finally:
                    os._exit(status)
            await asyncio.sleep(0.05)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0, status
            await block()

        neverblock.run(main(), watch=neverblock.Watch(on_stall=found.append))
        assert len([stall for stall in found if stall.over]) >= 1, found
        """
    )
    assert done.returncode == 0, done.stderr


FORKS = {
    "os.fork": "child = os.fork() or os._exit(0); os.waitpid(child, 0)",
    "multiprocessing": "process = multiprocessing.get_context('fork').Process(target=int); "
    "process.start(); process.join(); process.close()",
    "preexec_fn": "subprocess.run(['true'], preexec_fn=int)",
    "pty": "child, end = pty.fork(); child or os._exit(0); os.waitpid(child, 0); os.close(end)",
}


@pytest.mark.parametrize("how", FORKS)
def test_the_watch_goes_on_after_a_fork_and_is_no_reason_to_warn(how: str) -> None:
    """Python warns of a fork in a process with threads from 3.12 on: the watch has none then."""
    done = program(
        f"""
        import asyncio, multiprocessing, os, pty, subprocess, time
        import neverblock

        found = []

        async def main():
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                {FORKS[how]}
            await asyncio.sleep(0)
            assert len(os.listdir("/proc/self/task")) == 3
            while len(os.listdir("/proc/self/fd")) != before:  # The watch may be reading proc(5).
                await asyncio.sleep(0.01)
            found.clear()
            time.sleep(0.4)
            while not (found and found[-1].over):
                await asyncio.sleep(0.01)

        neverblock.run(main(), watch=neverblock.Watch(threshold=0.1, on_stall=found.append))
        assert len(os.listdir("/proc/self/task")) <= 2  # One may be about to end.
        """,
        "-W",
        "error",
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Warning" not in done.stderr


def test_what_blocks_after_a_fork_in_the_same_callback_is_found() -> None:
    done = program(
        """
        import asyncio, os, time, neverblock
        async def main():
            child = os.fork()
            if child == 0:
                time.sleep(0.5)
                os._exit(0)
            os.waitpid(child, 0)
        neverblock.run(main(), watch=neverblock.Watch(threshold=0.1))
        """
    )
    assert done.returncode == 0, done.stderr
    assert "<string>:8 in main" in done.stderr


@pytest.mark.parametrize("forks", [1, 3])
def test_a_stall_goes_on_over_a_fork(forks: int) -> None:
    done = program(
        f"""
        import asyncio, os, time, neverblock
        found = []
        def block():
            while not found:
                time.sleep(0.01)
            for _ in range({forks}):
                child = os.fork() or os._exit(0)
                os.waitpid(child, 0)
                time.sleep(0.2)
        async def main():
            block()
            while not found[-1].over:
                await asyncio.sleep(0.01)
        neverblock.run(main(), watch=neverblock.Watch(threshold=0.05, on_stall=found.append))
        assert [stall.over for stall in found] == [False, True], found
        assert found[-1].count == 1
        assert found[-1].duration >= {forks} * 0.2
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("and counting") == done.stderr.count("free again") == 1, done.stderr


def test_a_long_turn_goes_on_over_a_fork() -> None:
    done = program(
        """
        import asyncio, os, time, neverblock
        found = []
        forked = []
        def tiny():
            end = time.thread_time() + 1e-5
            while time.thread_time() < end:
                pass
            if found and not forked:
                forked.append(os.fork() or os._exit(0))
                os.waitpid(forked[0], 0)
        async def main():
            loop = asyncio.get_running_loop()
            while not forked:  # Again where the watch had no CPU meanwhile.
                for _ in range(20_000):
                    loop.call_soon(tiny)
                await asyncio.sleep(0)
            while not found[-1].over:
                await asyncio.sleep(0.01)
        watch = neverblock.Watch(threshold=30, turn_threshold=0.02, on_stall=found.append)
        neverblock.run(main(), watch=watch)
        assert [stall.over for stall in found] == [False, True], found
        """
    )
    assert done.returncode == 0, done.stderr


def test_a_fork_in_another_thread_than_the_loop_s_leaves_the_loop_watched() -> None:
    done = program(
        """
        import asyncio, os, time, neverblock
        found = []
        def fork():
            child = os.fork() or os._exit(0)
            os.waitpid(child, 0)
        async def main():
            await asyncio.gather(*(asyncio.to_thread(fork) for _ in range(8)))
            found.clear()
            time.sleep(0.4)
            while not (found and found[-1].over):
                await asyncio.sleep(0.01)
        neverblock.run(main(), watch=neverblock.Watch(threshold=0.1, on_stall=found.append))
        """
    )
    assert done.returncode == 0, done.stderr


def test_on_stall_may_fork() -> None:
    done = program(
        """
        import asyncio, os, time, neverblock
        found = []
        def tell(stall):
            child = os.fork() or os._exit(0)
            os.waitpid(child, 0)
            found.append(stall)
        async def main():
            time.sleep(0.4)
            while len(found) < 2:
                await asyncio.sleep(0.01)
        neverblock.run(main(), watch=neverblock.Watch(threshold=0.1, on_stall=tell))
        """
    )
    assert done.returncode == 0, done.stderr


def test_a_watched_process_may_become_another_program() -> None:
    done = program(
        """
        import os, signal, sys, time, neverblock
        async def main():
            time.sleep(0.3)
            other = "import os, signal; print(len(os.listdir('/proc/self/task')))"
            other += "; print(len(os.listdir('/proc/self/fd')))"
            other += "; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
            os.execv(sys.executable, [sys.executable, "-c", other])
        neverblock.run(main(), watch=neverblock.Watch(threshold=0.1))
        """
    )
    assert (done.returncode, done.stdout) == (0, "1\n4\nset()\n"), done.stderr


def test_a_fork_leaves_the_watch_of_another_loop_to_the_parent() -> None:
    """From 3.12 on asyncio's own hook says in the child that no loop runs there any more."""
    done = program(
        """
        import asyncio, os, time, neverblock
        from neverblock.watch import Output
        from neverblock.watch.everywhere import every_loop
        parent = os.getpid()
        class Flushed(Output):
            def flush(self):
                if os.getpid() != parent:
                    os.write(1, b"flushed in the child\\n")
        found = []
        def block():
            time.sleep(0.4)
        async def main():
            for _ in range(3):
                child = os.fork() or os._exit(0)
                os.waitpid(child, 0)
                await asyncio.sleep(0.05)
            block()
            async with asyncio.timeout(30):
                while not any(each.over and each.place and each.place.function == "block"
                              for each in found):
                    await asyncio.sleep(0.01)
        watch = neverblock.Watch(threshold=0.1, on_stall=found.append, outputs=[Flushed()])
        every_loop(watch)
        asyncio.run(main())
        """
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
