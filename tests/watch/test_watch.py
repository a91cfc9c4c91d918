"""The watch as a whole: what it tells, when it is silent, and what it leaves behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest

import neverblock
from neverblock.watch import Stall, Watch
from tests.watch.running import program

THRESHOLD = 0.05
#: Long enough to be found on a busy machine.
BLOCKED = 0.4


def watched(found: list[Stall], backend: str | None = None) -> neverblock.Loop:
    return neverblock.Loop(backend, watch=Watch(threshold=THRESHOLD, on_stall=found.append))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_a_stall_is_told_twice(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    found: list[Stall] = []

    async def main() -> None:
        time.sleep(BLOCKED)
        await until(lambda: len(found) == 2)

    with asyncio.Runner(loop_factory=lambda: watched(found, backend)) as runner:
        runner.run(main())
    began, ended = found
    assert (began.over, ended.over) == (False, True)
    assert THRESHOLD <= began.duration < ended.duration
    assert began.source == "time.sleep(BLOCKED)"
    assert began.task is not None
    assert began.task.startswith("Task-")
    records = [record for record in caplog.records if record.name == "neverblock.watch"]
    assert [record.levelno for record in records] == [logging.WARNING] * 2
    assert vars(records[0])["stall_line"] == began.place.line if began.place else False
    assert "hint: await asyncio.sleep(BLOCKED)" in records[0].getMessage()
    assert "loop free again after" in records[1].getMessage()


def test_a_protocol_that_blocks_is_named(backend: str) -> None:
    found: list[Stall] = []

    class Sleepy(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            time.sleep(BLOCKED)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Sleepy, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"!")
        await until(lambda: len(found) == 2)
        writer.close()
        await writer.wait_closed()
        server.close()

    with asyncio.Runner(loop_factory=lambda: watched(found, backend)) as runner:
        runner.run(main())
    assert found[0].place is not None
    assert found[0].place.function.endswith("data_received")


def test_an_idle_loop_is_not_stuck(backend: str) -> None:
    found: list[Stall] = []
    loop = watched(found, backend)
    try:
        loop.run_until_complete(asyncio.sleep(0.1))
        sentinel = loop._watched_by._sentinel
        before = sentinel.looks
        loop.run_until_complete(asyncio.sleep(1.0))
        # A few until it sleeps as well, and then none.
        assert sentinel.looks - before <= 20
    finally:
        loop.close()
    assert not found


def test_short_callbacks_are_not_a_stall(backend: str) -> None:
    found: list[Stall] = []

    async def main() -> None:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: watched(found, backend)) as runner:
        runner.run(main())
    # On a machine with other work, nothing but that.
    assert not [stall for stall in found if stall.cause != "not scheduled by the system"]


# In processes of their own, whose threads are all known.
def test_without_a_watch_there_is_no_thread() -> None:
    done = program(
        """
        import os
        import neverblock

        async def main():
            return len(os.listdir("/proc/self/task"))

        assert neverblock.run(main()) == 1
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_loop_leaves_neither_thread_nor_signal_nor_descriptor() -> None:
    done = program(
        """
        import os, signal, time
        import neverblock

        async def main():
            return len(os.listdir("/proc/self/task"))

        handlers = [signal.getsignal(number) for number in signal.valid_signals()]
        descriptors = len(os.listdir("/proc/self/fd"))
        assert neverblock.run(main(), watch=neverblock.Watch()) == 3
        while len(os.listdir("/proc/self/task")) != 1:  # They may be about to end.
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert [signal.getsignal(number) for number in signal.valid_signals()] == handlers
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_handler_of_the_users_is_left_alone() -> None:
    taken = signal.SIGRTMIN + 8
    heard: list[int] = []
    before = signal.signal(taken, lambda number, _: heard.append(number))
    found: list[Stall] = []
    try:

        async def main() -> None:
            time.sleep(BLOCKED)
            signal.raise_signal(taken)
            await until(lambda: len(found) == 2)

        with asyncio.Runner(loop_factory=lambda: watched(found)) as runner:
            runner.run(main())
        assert heard == [taken]
        with pytest.raises(ValueError, match="has a handler already"):
            Watch(signal=taken)
    finally:
        signal.signal(taken, before)


def test_without_a_signal_pythons_frames_tell_the_line() -> None:
    found: list[Stall] = []

    async def main() -> None:
        time.sleep(BLOCKED)
        await until(lambda: len(found) == 2)

    neverblock.run(main(), watch=Watch(threshold=THRESHOLD, signal=None, on_stall=found.append))
    assert found[0].place is not None
    assert found[0].source == "time.sleep(BLOCKED)"


def test_each_loop_of_several_threads_is_watched() -> None:
    found: list[Stall] = []

    def one() -> None:
        async def main() -> None:
            time.sleep(BLOCKED)

        with asyncio.Runner(loop_factory=lambda: watched(found)) as runner:
            runner.run(main())

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(stall.over for stall in found) == 3
    assert {stall.source for stall in found} == {"time.sleep(BLOCKED)"}


def test_a_stopped_process_was_not_stuck() -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import asyncio, neverblock
                async def main():
                    print("up", flush=True)
                    while not stopped.done():
                        await asyncio.sleep(0)
                async def start():
                    global stopped
                    loop = asyncio.get_running_loop()
                    stopped = loop.create_future()
                    loop.add_signal_handler(15, stopped.set_result, None)
                    await main()
                def tell(stall):
                    if stall.cause != "not scheduled by the system":
                        print(stall, flush=True)
                neverblock.run(start(), watch=neverblock.Watch(threshold=0.3, on_stall=tell))
                """
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        time.sleep(1.0)  # it is this time that must not be taken for a stall
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
        assert process.wait() == 0


def test_an_exit_while_stuck_is_quick_and_quiet() -> None:
    done = program(
        """
        import asyncio, threading, time, neverblock
        def run():
            watch = neverblock.Watch(threshold=0.05, on_stall=lambda stall: told.set())
            neverblock.run(block(), watch=watch)
        async def block():
            time.sleep(60)
        told = threading.Event()
        threading.Thread(target=run, daemon=True).start()
        told.wait()
        """
    )
    assert done.returncode == 0, done.stderr
    # A program of -c has lines in 3.13; later ones are found by its code alone.
    assert ("time.sleep(60)" in done.stderr) == (sys.version_info[:2] == (3, 13))
    assert "<string>:7 in block" in done.stderr


def test_what_cannot_be_had_is_refused() -> None:
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="threshold"):
            Watch(threshold=wrong)
    with pytest.raises(ValueError, match="signal"):
        Watch(signal=99)
    with pytest.raises(ValueError, match="on_stall"):
        Watch(on_stall="loud")  # type: ignore[arg-type]
    coroutine = asyncio.sleep(0)
    with pytest.raises(TypeError, match="loop_factory or watch"):
        neverblock.run(coroutine, loop_factory=neverblock.Loop, watch=Watch())
    coroutine.close()
