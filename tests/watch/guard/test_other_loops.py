"""The guard on loops that are not ours: ``neverblock watch --strict``."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.watch.others import LOOPS, USUAL_START, line_of, program, watch

#: Before each program: what is refused, as text.
HEAD = """
import asyncio, os, selectors, socket, sqlite3, subprocess, threading, time
import neverblock
from neverblock.errors import BlockingCallError

def refused(call, *arguments):
    try:
        call(*arguments)
    except BlockingCallError as error:
        return error
    raise AssertionError(f"{call} was made")
"""


def strict(folder: Path, loop: str, text: str) -> tuple[Path, str]:
    """The program, which ends well, and what it printed."""
    path = program(folder, loop, HEAD + textwrap.dedent(text))
    done = watch("--strict", path)
    assert "BlockingCallError" not in done.stderr, done.stderr
    return path, done.stdout


@pytest.mark.parametrize("loop", LOOPS)
def test_what_blocks_is_refused_with_its_line_and_cure(tmp_path: Path, loop: str) -> None:
    path, said = strict(
        tmp_path,
        loop,
        """
        async def main():
            error = refused(time.sleep, 0.5)
            assert (error.call, error.cure) == ("time.sleep", "await asyncio.sleep(0.5)")
            lock = threading.Lock()
            lock.acquire()
            ours, theirs = socket.socketpair()
            for call in (
                (open, __file__),
                (os.stat, __file__),
                (os.path.exists, "nowhere"),
                (sqlite3.connect, ":memory:"),
                (subprocess.run, ["true"]),
                (socket.getaddrinfo, "localhost", 80),
                (ours.recv, 1),
                (selectors.DefaultSelector().select, 1),
                (lock.acquire,),
                (threading.Event().wait,),
            ):
                refused(*call)
            ours.close()
            theirs.close()
            try:
                time.sleep(0.001)
            except BlockingCallError as error:
                print(error.where)
        """,
    )
    assert said == f"{path}:{line_of(path, '        time.sleep(0.001)')} in main\n"


@pytest.mark.parametrize("loop", LOOPS)
def test_only_the_thread_of_a_loop_and_only_while_it_runs(tmp_path: Path, loop: str) -> None:
    strict(
        tmp_path,
        loop,
        """
        async def other():
            refused(time.sleep, 0.001)

        def in_thread():
            time.sleep(0.001)
            RUN_OTHER
            time.sleep(0.001)

        async def main():
            await asyncio.to_thread(time.sleep, 0.001)
            await asyncio.to_thread(in_thread)
            with neverblock.allow_blocking("why"):
                time.sleep(0.001)
            import colorsys, this_is_imported
            refused(time.sleep, 0.001)

        with open(os.path.join(os.path.dirname(__file__), "this_is_imported.py"), "w") as file:
            file.write("import time; time.sleep(0.001)")
        RUN_OTHER
        time.sleep(0.001)
        """.replace(
            "RUN_OTHER",
            "asyncio.run(other())" if loop == "asyncio" else "import uvloop; uvloop.run(other())",
        ),
    )


@pytest.mark.parametrize("loop", LOOPS)
def test_c_code_that_the_loop_calls_is_refused(tmp_path: Path, loop: str) -> None:
    _, said = strict(
        tmp_path,
        loop,
        """
        async def main():
            loop = asyncio.get_running_loop()
            told = loop.create_future()
            loop.set_exception_handler(lambda _, context: told.set_result(context["exception"]))
            loop.call_soon(time.sleep, 0.001)
            print(repr((await told).where))
        """,
    )
    assert said == "''\n"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_lock_that_the_loop_takes_as_a_callback_is_refused(tmp_path: Path, loop: str) -> None:
    _, said = strict(
        tmp_path,
        loop,
        """
        async def main():
            loop = asyncio.get_running_loop()
            told = []
            loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
            lock = threading.Lock()
            lock.acquire()
            loop.call_soon(lock.acquire, True, 0.1)
            await asyncio.sleep(0.2)
            print(*map(type, told))
        """,
    )
    assert said == "<class 'neverblock.errors.BlockingCallError'>\n"


@pytest.mark.parametrize("loop", LOOPS)
def test_the_usual_start_of_a_program_is_no_blocking_call(tmp_path: Path, loop: str) -> None:
    done = watch("--strict", USUAL_START, tmp_path, loop)
    assert "BlockingCallError" not in done.stderr, done.stderr
    assert done.stdout == "well\nwell\n", done.stderr


def test_a_loop_of_ours_is_strict_too_but_where_it_has_a_watch_of_its_own(tmp_path: Path) -> None:
    strict(
        tmp_path,
        "asyncio",
        """
        async def main():
            refused(time.sleep, 0.001)

        async def unguarded():
            time.sleep(0.001)

        neverblock.run(main())
        neverblock.run(unguarded(), watch=neverblock.Watch())
        """,
    )


def test_a_loop_may_wait_by_a_selector_of_the_program_s(tmp_path: Path) -> None:
    strict(
        tmp_path,
        "asyncio",
        """
        class Selector(selectors.DefaultSelector):
            def select(self, timeout=None):
                return super().select(timeout)

        async def main():
            await asyncio.sleep(0.01)
            refused(time.sleep, 0.001)
            refused(Selector().select, 1)

        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Selector())) as runner:
            runner.run(main())
        """,
    )


def test_a_loop_that_cannot_be_watched_is_guarded_all_the_same() -> None:
    code = HEAD + textwrap.dedent(
        """
        from neverblock.watch.everywhere import every_loop

        class Readerless(asyncio.SelectorEventLoop):
            def add_reader(self, fd, callback, *args):
                raise NotImplementedError

        async def main():
            refused(time.sleep, 0.001)

        every_loop(neverblock.Watch(strict=True))
        with asyncio.Runner(loop_factory=Readerless) as runner:
            runner.run(main())
        time.sleep(0.001)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the loop is not watched: NotImplementedError()" in done.stderr


def test_a_forked_child_is_not_guarded_and_its_own_loop_is(tmp_path: Path) -> None:
    strict(
        tmp_path,
        "asyncio",
        """
        import warnings
        warnings.simplefilter("ignore")

        async def again():
            refused(time.sleep, 0.001)

        async def main():
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    time.sleep(0.001)
                    asyncio._set_running_loop(None)
                    asyncio.run(again())
                    status = 0
                finally:
                    os._exit(status)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0, status
            refused(time.sleep, 0.001)
        """,
    )
