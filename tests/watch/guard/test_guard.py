"""The guard as a whole: when it refuses, when it does not, and what it leaves behind."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import queue
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from pathlib import Path
from time import sleep as sleep_by_another_name
from typing import Any

import pytest

import neverblock
from neverblock import Guard, allow_blocking
from neverblock.errors import BlockingCallError
from neverblock.watch import guard
from tests.watch.others import USUAL_START

SHORT = 0.001


def strict(main: Coroutine[Any, Any, Any]) -> Any:
    return neverblock.run(main, watch=Guard())


def refuses(call: Callable[..., object], *arguments: object) -> bool:
    try:
        call(*arguments)
    except BlockingCallError:
        return True
    return False


def program(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_strict_watch_guards_and_watches_on_every_backend(backend: str) -> None:
    async def main() -> None:
        assert refuses(time.sleep, SHORT)

    loop = neverblock.Loop(backend, watch=neverblock.Watch(strict=True))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())


def test_names_and_methods_that_were_taken_before_are_caught() -> None:
    lock = threading.Lock()
    acquire = lock.acquire
    lock.acquire()

    async def main() -> None:
        assert refuses(sleep_by_another_name, SHORT)
        assert refuses(acquire)

    strict(main())


def test_nothing_is_replaced() -> None:
    before = (time.sleep, threading.Lock, os.path.abspath, socket.socket.recv)
    signature = inspect.signature(os.path.abspath)

    async def main() -> None:
        assert (time.sleep, threading.Lock, os.path.abspath, socket.socket.recv) == before
        assert time.sleep.__name__ == "sleep"
        assert pickle.loads(pickle.dumps(time.sleep)) is time.sleep
        assert pickle.loads(pickle.dumps(os.path.abspath)) is os.path.abspath
        assert inspect.signature(os.path.abspath) == signature
        assert isinstance(threading.Lock(), type(threading.Lock()))

    strict(main())


def test_without_a_strict_loop_nothing_is_refused() -> None:
    strict(asyncio.sleep(0))
    time.sleep(SHORT)
    assert os.path.abspath("x").endswith("x")

    async def main() -> None:
        time.sleep(SHORT)
        with open(__file__) as file:
            assert file.readline()

    neverblock.run(main())
    assert guard.installation._running == 0


def test_other_threads_are_left_alone() -> None:
    async def main() -> None:
        await asyncio.to_thread(time.sleep, SHORT)
        text = await asyncio.to_thread(Path(__file__).read_text)
        assert text
        assert refuses(time.sleep, SHORT)

    strict(main())


def test_a_loop_in_another_thread_is_guarded_and_the_main_one_is_not() -> None:
    found: list[bool] = []
    asked, done = threading.Event(), threading.Event()

    async def main() -> None:
        found.append(refuses(time.sleep, SHORT))
        asked.set()
        await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: strict(main()))
    thread.start()
    asked.wait()
    time.sleep(SHORT)  # here nobody minds
    done.set()
    thread.join()
    assert found == [True]


def test_what_does_not_wait_is_let_through(tmp_path: Path) -> None:
    lock, some = threading.Lock(), queue.Queue[int]()
    full = threading.Event()
    full.set()

    async def main() -> None:
        with lock:
            assert lock.acquire(False) is False
            assert lock.acquire(blocking=False) is False
            assert lock.acquire(timeout=0) is False
        assert lock.acquire() is True
        lock.release()
        some.put(1)
        assert some.get() == 1
        with pytest.raises(queue.Empty):
            some.get_nowait()
        assert full.wait()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for end in (ours, theirs):
                end.setblocking(False)
            assert ours.send(b"x") == 1
            assert theirs.recv(1) == b"x"
            with pytest.raises(BlockingIOError):
                theirs.recv(1)
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        os.write(writing, b"x")
        assert os.read(reading, 1) == b"x"
        os.close(reading)
        os.close(writing)
        assert socket.getaddrinfo("127.0.0.1", 80)
        with pytest.raises(ChildProcessError):
            os.waitpid(os.getpid(), os.WNOHANG)
        print("printing is allowed")

    strict(main())


def test_a_socket_that_is_told_not_to_wait_is_let_through() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    flag, place = socket.MSG_DONTWAIT, bytearray(1)
    receive: tuple[Callable[[], object], ...] = (
        lambda: ours.recv(1, flag),
        lambda: ours.recvfrom(1, flag),
        lambda: ours.recv_into(place, 1, flag),
        lambda: ours.recv_into(place, flags=flag),
        lambda: ours.recvfrom_into(place, 1, flag),
        lambda: ours.recvfrom_into(place, flags=flag),
        lambda: ours.recvmsg(1, 0, flag),
        lambda: ours.recvmsg_into([place], 0, flag),
    )
    send: tuple[Callable[[], object], ...] = (
        lambda: ours.send(b"x", flag),
        lambda: ours.sendall(b"x", flag),
        lambda: ours.sendmsg([b"x"], [], flag),
        lambda: ours.sendto(b"x", flag, theirs.getsockname()),
    )

    async def main() -> None:
        for call in receive:
            with pytest.raises(BlockingIOError):
                call()
        for call in send:
            try:
                call()
            except OSError:  # the other end has no address
                assert call is send[-1]
        assert refuses(ours.recv, 1)
        assert refuses(ours.sendto, b"x", theirs.getsockname())
        ours.settimeout(10)
        for call in (*receive, *send):
            assert refuses(call)

    with ours, theirs:
        strict(main())


def test_a_lock_that_is_free_in_a_moment_is_had() -> None:
    lock, held = threading.Lock(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()

    async def main() -> None:
        for _ in range(100):
            thread = threading.Thread(target=hold)
            thread.start()
            lock.acquire()
            lock.release()
            await asyncio.to_thread(thread.join)

    strict(main())


def test_a_file_is_closed_whatever_is_left_to_write(tmp_path: Path) -> None:
    file = open(tmp_path / "file", "w")  # noqa: SIM115
    file.write("text")

    async def main() -> None:
        assert refuses(file.write, "more")
        file.close()

    strict(main())
    assert (tmp_path / "file").read_text() == "text"


def test_imports_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_by_a_strict_loop.py").write_text("import time\ntime.sleep(0.001)\n")
    monkeypatch.syspath_prepend(tmp_path)

    async def main() -> None:
        import imported_by_a_strict_loop  # type: ignore[import-not-found]  # noqa: F401

    strict(main())


def test_blocking_is_allowed_within_its_block_alone() -> None:
    async def other() -> bool:
        return refuses(time.sleep, SHORT)

    async def main() -> None:
        beside = asyncio.create_task(asyncio.sleep(0))
        outside = asyncio.create_task(other())
        with allow_blocking("measured: 1 ms"):
            time.sleep(SHORT)
            await beside
            time.sleep(SHORT)
            with allow_blocking("and within"):
                time.sleep(SHORT)
            time.sleep(SHORT)
            left = asyncio.create_task(asyncio.sleep(0, asyncio.get_running_loop().time()))
            later = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(
                0.01, lambda: later.set_result(refuses(time.sleep, SHORT))
            )
        assert await outside
        await left
        assert await later  # the block is over, though the context is the block's
        assert refuses(time.sleep, SHORT)

    strict(main())


def test_blocking_is_allowed_in_a_decorated_function() -> None:
    @allow_blocking("plain")
    def plain(seconds: float) -> float:
        """Sleeps."""
        time.sleep(seconds)
        return seconds

    @allow_blocking("coroutine")
    async def coroutine() -> None:
        await asyncio.sleep(0)
        time.sleep(SHORT)

    async def main() -> None:
        assert plain(SHORT) == SHORT
        await coroutine()
        assert refuses(time.sleep, SHORT)

    strict(main())
    assert (plain.__name__, plain.__doc__) == ("plain", "Sleeps.")
    assert inspect.iscoroutinefunction(coroutine)


async def numbers(reason: str) -> AsyncGenerator[int, None]:
    with allow_blocking(reason):
        yield 1


def test_a_generator_that_another_task_closes_ends_its_own_block_alone() -> None:
    async def close(opened: asyncio.Event, generator: AsyncGenerator[int, None]) -> None:
        with allow_blocking("of who closes it"):
            await opened.wait()
            await generator.aclose()
            time.sleep(SHORT)
        assert refuses(time.sleep, SHORT)

    async def main() -> None:
        opened = asyncio.Event()
        generator = numbers("of the generator")
        closing = asyncio.create_task(close(opened, generator))  # its context has no block
        await anext(generator)
        time.sleep(SHORT)
        opened.set()
        await closing
        assert refuses(time.sleep, SHORT)

    strict(main())


def test_a_block_ends_where_a_generator_has_left_its_own_open_inside() -> None:
    def values() -> Iterator[int]:
        with allow_blocking("of the generator"):
            yield 1

    async def main() -> None:
        with allow_blocking("around"):
            generator, another = values(), values()
            with allow_blocking("inside"):
                next(generator)
            time.sleep(SHORT)
            next(another)
        assert refuses(time.sleep, SHORT)
        for each in (generator, another):
            assert list(each) == []
        assert refuses(time.sleep, SHORT)
        with allow_blocking("after all"):
            time.sleep(SHORT)
        assert refuses(time.sleep, SHORT)

    strict(main())


def test_one_permission_serves_several_tasks_and_itself() -> None:
    shared = allow_blocking("shared")

    @shared
    def down(depth: int) -> None:
        if depth:
            down(depth - 1)
        time.sleep(SHORT)

    async def work(turns: int) -> None:
        for _ in range(turns):
            with shared:
                await asyncio.sleep(0)
                time.sleep(SHORT)
                down(2)
                time.sleep(SHORT)
            assert refuses(time.sleep, SHORT)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(work(1), work(2), work(3), asyncio.to_thread(down, 2))
        with shared:
            await asyncio.gather(asyncio.to_thread(down, 2), asyncio.sleep(0))
            down(2)
            time.sleep(SHORT)
        assert refuses(time.sleep, SHORT)

    strict(main())


def test_blocking_is_not_allowed_without_a_reason() -> None:
    with pytest.raises(TypeError, match="reason"):
        allow_blocking(time.sleep)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reason"):
        allow_blocking(" ")

    def generator() -> Any:
        yield

    with pytest.raises(TypeError, match="use `with` inside it, not around a yield"):
        allow_blocking("why")(generator)


def test_a_callback_of_c_code_is_refused() -> None:
    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        found: list[object] = []
        loop.set_exception_handler(lambda _, context: found.append(context["exception"]))
        loop.call_soon(time.sleep, SHORT)
        await asyncio.sleep(0.01)
        return found

    [error] = strict(main())
    assert isinstance(error, BlockingCallError)


@pytest.mark.parametrize("how", ["acquire", "__enter__"])
@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock, threading.Condition])
def test_a_lock_that_the_loop_takes_as_a_callback_is_refused(
    kind: Callable[[], Any], how: str
) -> None:
    lock, held, done = kind(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(5)  # for good, where the loop waits for it

    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        found: list[object] = []
        loop.set_exception_handler(lambda _, context: found.append(context["exception"]))
        loop.call_soon(getattr(lock, how))
        loop.call_soon(done.set)
        await asyncio.to_thread(thread.join)
        return found

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    [error] = strict(main())
    assert isinstance(error, BlockingCallError)


def test_an_error_can_be_pickled() -> None:
    error = BlockingCallError("a", "b", "c:1 in d", "e")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.call, again.by, again.where, again.cure) == (
        str(error), "a", "b", "c:1 in d", "e",
    )  # fmt: skip


def test_a_forked_child_is_not_guarded() -> None:
    done = program(
        """
        import asyncio, os, time, warnings
        import neverblock

        warnings.simplefilter("ignore")

        async def main():
            child = os.fork()
            if child == 0:
                try:
                    time.sleep(0.001)
                    asyncio._set_running_loop(None)
                    async def again():
                        try:
                            time.sleep(0.001)
                        except neverblock.errors.BlockingCallError:
                            os._exit(0)
                    neverblock.run(again(), watch=neverblock.Guard())
                finally:
                    os._exit(1)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0, status
            try:
                time.sleep(0.001)
            except neverblock.errors.BlockingCallError:
                print("refused")

        neverblock.run(main(), watch=neverblock.Guard())
        """
    )
    assert done.stdout == "refused\n", done.stderr


@pytest.mark.parametrize("threshold", ["off", "0.5"])
def test_the_command_is_strict_where_it_is_told_to(tmp_path: Path, threshold: str) -> None:
    (tmp_path / "app.py").write_text(
        "import asyncio, time\nasync def main():\n    time.sleep(0.4)\nasyncio.run(main())\n"
    )
    command = ["run", "--strict", "--stall-threshold", threshold, "app.py"]
    done = subprocess.run(
        [sys.executable, "-m", "neverblock", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "BlockingCallError: time.sleep blocks the event loop, at app.py:3 in main" in done.stderr
    assert "await asyncio.sleep(0.4)" in done.stderr


def test_paths_of_any_kind_are_compared_without_a_warning() -> None:
    """With -bb comparing text with bytes is an error."""
    done = program(
        """
        import io, os, sys
        from pathlib import Path
        import neverblock
        from neverblock.errors import BlockingCallError

        def refused(call, path):
            try:
                call(path, 0 if call is os.open else "r")
            except BlockingCallError:
                return True

        class Wrong:
            def __fspath__(self):
                return 1

        async def main():
            for kind in (str, os.fsencode, Path):
                for call in (open, io.FileIO, os.open):
                    assert refused(call, kind(sys.executable)), (kind, call)
                    assert not refused(call, kind(os.devnull)), (kind, call)
            for call in (open, io.FileIO, os.open):
                for path in (Wrong(), "\\ud800", None):
                    try:
                        call(path, 0 if call is os.open else "r")
                    except (TypeError, ValueError):
                        continue
                    raise AssertionError(path)
            print("well")

        neverblock.run(main(), watch=neverblock.Guard())
        """,
        "-bb",
    )
    assert done.stdout == "well\n", done.stderr


def test_what_is_replaced_is_guarded_once_it_is_itself_again() -> None:
    done = program(
        """
        import asyncio, logging, os, select, time
        from unittest import mock
        import neverblock
        from neverblock import Guard
        from neverblock.errors import BlockingCallError

        logging.basicConfig(level=logging.INFO, format="%(message)s")

        def refused(call, *arguments):
            try:
                call(*arguments)
            except BlockingCallError:
                return True

        async def replaced():
            assert time.sleep(0.001) == "slept"
            assert os.path.abspath("x") == "/x"
            assert refused(os.stat, ".")

        async def whole():
            assert refused(time.sleep, 0.001)
            assert refused(os.path.abspath, "x")
            print("refused")

        with (
            mock.patch("time.sleep", lambda seconds: "slept"),
            mock.patch("os.path.abspath", lambda path: "/x"),
            mock.patch("select.poll", side_effect=OSError),
            mock.patch("_io.TextIOWrapper"),
        ):
            for _ in range(10):
                neverblock.run(replaced(), watch=Guard())
        neverblock.run(whole(), watch=Guard())
        """
    )
    assert done.stdout == "refused\n", done.stderr
    told = [line for line in done.stderr.splitlines() if "not guarded" in line]
    assert told == [
        "not guarded while replaced: time.sleep, io.TextIOWrapper.__next__, os.path.abspath"
    ]


def test_the_usual_start_of_a_program_is_no_blocking_call(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(USUAL_START), str(tmp_path), "neverblock"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "BlockingCallError" not in done.stderr, done.stderr
    assert done.stdout == "well\nwell\n", done.stderr
