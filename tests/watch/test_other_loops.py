"""The watch on loops that are not ours: asyncio's and uvloop's."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.watch.others import LOOPS, RUN, line_of, program, watch

#: The system call of select.poll().
POLL = "ppoll" if sys.version_info >= (3, 15) else "poll"


def begun(output: str) -> list[str]:
    """The lines that tell of a stall that goes on."""
    return [line for line in output.splitlines() if "and counting" in line]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_line_that_blocks_is_named(tmp_path: Path, loop: str) -> None:
    path = program(
        tmp_path,
        loop,
        """
        import asyncio, re, select, time

        async def main():
            await asyncio.sleep(0.2)
            time.sleep(0.6)
            await asyncio.sleep(0.2)
            select.poll().poll(600)
            await asyncio.sleep(0.2)
            re.match("(a+)+$", "a" * 25 + "b")
            await asyncio.sleep(0.2)
        """,
    )
    told = watch("--stall-threshold", "0.1", path).stderr
    for text, cause in [
        ("    time.sleep(0.6)", "sleeping in clock_nanosleep"),
        ("    select.poll().poll(600)", f"sleeping in {POLL}"),
        ('    re.match("(a+)+$", "a" * 25 + "b")', "computing in C, GIL held"),
    ]:
        place = f"{path}:{line_of(path, text)} in main"
        assert any(place in line for line in begun(told)), told
        assert cause in told or "not scheduled by the system" in told


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_waits_or_works_in_steps_is_not_stuck(tmp_path: Path, loop: str) -> None:
    path = program(
        tmp_path,
        loop,
        """
        import asyncio, time

        async def main():
            await asyncio.sleep(1)
            loop = asyncio.get_running_loop()
            end = loop.time() + 1
            while loop.time() < end:
                time.sleep(0.001)
                await asyncio.sleep(0)
            await asyncio.sleep(1)
        """,
    )
    told = begun(watch("--stall-threshold", "0.3", path).stderr)
    # What the machine does to a loop is said as well.
    assert not [line for line in told if "not scheduled" not in line]


@pytest.mark.parametrize("loop", LOOPS)
def test_each_run_and_each_thread_is_watched_and_nothing_stays(tmp_path: Path, loop: str) -> None:
    path = program(
        tmp_path,
        loop,
        """
        import asyncio, gc, os, threading, time

        def loops():
            RUNS

        async def main():
            time.sleep(0.5)

        def descriptors():
            gc.collect()
            return len(os.listdir("/proc/self/fd"))

        def once():
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()

        def run():
            asyncio.new_event_loop().close()
            RUN

        once()
        before = descriptors()
        once()
        run()
        assert descriptors() == before, (before, descriptors())
        assert threading.active_count() == 1, threading.enumerate()
        """.replace("            RUNS", "            pass").replace("RUN", RUN[loop]),
    )
    told = watch("--stall-threshold", "0.05", path).stderr
    assert f"{path}:{line_of(path, '    time.sleep(0.5)')} in main" in told
    assert "the loop was blocked 4 times" in told


@pytest.mark.parametrize("loop", LOOPS)
def test_stalls_go_where_they_are_asked_to(tmp_path: Path, loop: str) -> None:
    path = program(
        tmp_path,
        loop,
        """
        import asyncio, time

        async def main():
            await asyncio.sleep(0.1)
            time.sleep(0.5)
            await asyncio.sleep(0.1)
        """,
    )
    log, metrics = tmp_path / "stalls.jsonl", tmp_path / "stalls.prom"
    watch("--stall-log", log, "--metrics-file", metrics, path)
    began, ended = [json.loads(line) for line in log.read_text().splitlines()]
    assert began["stall_file"] == ended["stall_file"] == str(path)
    assert "neverblock_stalls_total" in metrics.read_text()


def test_a_command_is_found_and_watched() -> None:
    told = watch("--", "uvicorn", "--version")
    assert "uvicorn" in told.stdout


def test_a_program_that_is_not_there_is_refused() -> None:
    told = watch("no-such-program", expected=2).stderr
    assert told == (
        "neverblock: no file and no command no-such-program; name a script, or a module "
        "with: neverblock watch -m no-such-program\n"
    )


def test_a_program_that_is_not_python_is_refused() -> None:
    told = watch("sh", "-c", "exit 0", expected=2).stderr
    assert "is no Python script; name its module with: neverblock watch -m NAME" in told


def test_a_loop_imported_before_is_told(caplog: pytest.LogCaptureFixture) -> None:
    code = """
        import uvloop
        import neverblock
        from neverblock.watch.everywhere import every_loop
        every_loop(neverblock.Watch())
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert "loops of uvloop are not watched: import it after the watch has begun" in process.stderr


def test_watching_ends() -> None:
    code = """
        import asyncio, threading, time
        import neverblock
        from neverblock.watch.everywhere import every_loop

        async def main():
            return threading.active_count()

        told = asyncio._set_running_loop
        end = every_loop(neverblock.Watch())
        assert asyncio.run(main()) > 1
        end()
        assert asyncio.run(main()) == 1
        assert asyncio._set_running_loop is told
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_a_loop_that_cannot_be_watched_runs_all_the_same() -> None:
    code = """
        import asyncio, resource, threading
        import neverblock
        from neverblock.watch.everywhere import every_loop

        class Readerless(asyncio.SelectorEventLoop):
            def add_reader(self, fd, callback, *args):
                raise NotImplementedError

        async def main():
            return threading.active_count()

        every_loop(neverblock.Watch())
        with asyncio.Runner(loop_factory=Readerless) as runner:
            assert runner.run(main()) == 1
        loop = asyncio.new_event_loop()
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        assert loop.run_until_complete(main()) == 1
        loop.close()
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert "the loop is not watched: NotImplementedError()" in process.stderr
    assert "the watch has no descriptor for its bell: raise ulimit -n" in process.stderr


def test_a_loop_that_lost_the_bell_is_not_stuck_for_ever() -> None:
    code = """
        import asyncio, os, time
        import neverblock
        from neverblock.watch.everywhere import every_loop

        found = []

        def block(loop):
            [bell] = [
                fd for fd in loop._selector.get_map()
                if "eventfd" in os.readlink(f"/proc/self/fd/{fd}")
            ]
            loop.remove_reader(bell)
            time.sleep(0.4)

        async def main():
            await asyncio.sleep(0.5)  # Where it waits is known by then.
            block(asyncio.get_running_loop())
            async with asyncio.timeout(30):
                while not (found and found[-1].over):
                    await asyncio.sleep(0.01)

        every_loop(neverblock.Watch(threshold=0.1, on_stall=found.append))
        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_a_stall_does_not_begin_in_the_run_before() -> None:
    code = """
        import asyncio, time
        import neverblock

        told = []

        def tell(stall):
            told.append((time.monotonic() - stall.duration, stall))

        def last():
            loop.stop()
            time.sleep(0.06)  # Asked meanwhile, it ends without an answer.

        def ours():
            return [each for each in told if each[1].place and each[1].place.function == "main"]

        async def main():
            time.sleep(0.4)
            while not any(stall.over for _, stall in ours()):
                await asyncio.sleep(0.01)

        loop = asyncio.SelectorEventLoop()
        watcher = neverblock.Watch(threshold=0.1, on_stall=tell).attach(loop)
        loop.call_soon(last)
        watcher.enter()
        loop.run_forever()
        watcher.leave()
        time.sleep(0.2)  # Between two runs: it is this time that is not the second one's.
        begun = time.monotonic()
        watcher.enter()
        loop.run_until_complete(main())
        watcher.leave()
        watcher.stop()
        loop.close()
        assert all(began >= begun for began, _ in ours()), (told, begun)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_a_forked_process_is_watched_and_another_program_is_not(tmp_path: Path) -> None:
    path = program(
        tmp_path,
        "asyncio",
        """
        import asyncio, os, subprocess, sys, time

        OTHER = '''
        import asyncio, time
        async def other():
            time.sleep(0.4)
        asyncio.run(other())
        '''

        async def main():
            time.sleep(0.4)

        if child := os.fork():
            assert os.waitpid(child, 0)[1] == 0
            sys.exit(subprocess.call([sys.executable, "-c", OTHER]))
        """,
    )
    told = begun(watch("--stall-threshold", "0.1", path).stderr)
    assert [line for line in told if line.endswith('in main (task "Task-1")')], told
    assert not [line for line in told if "in other" in line]


@pytest.mark.parametrize("loop", LOOPS)
def test_who_runs_the_loop_is_not_taken_for_the_callback(tmp_path: Path, loop: str) -> None:
    path = program(
        tmp_path,
        loop,
        """
        import asyncio, re, subprocess, time

        async def main():
            loop = asyncio.get_running_loop()
            for callback, *arguments in (
                (subprocess.call, ["sleep", "0.5"]),
                (re.match, "(a+)+$", "a" * 25 + "b"),  # Holds the GIL.
                (time.sleep, 0.5),
            ):
                loop.call_soon(callback, *arguments)
                await asyncio.sleep(0.2)
        """,
    )
    told = watch("--stall-threshold", "0.1", path).stderr
    # What the machine does to a loop is said as well.
    assert path.name not in "".join(line for line in begun(told) if "in main" not in line), told
    match = " in prefixmatch" if sys.version_info >= (3, 15) else " in match"
    for where in (" in Popen._try_wait", match, ": a callback without Python code"):
        assert any(where in line for line in begun(told)), told
