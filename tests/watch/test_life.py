"""Loops and programs that end in every way while they are watched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.serving import exactly, served
from tests.watch.running import program

HEAD = "import asyncio, logging, os, signal, sys, threading, time\nimport neverblock\n"
WATCH = "watch=neverblock.Watch(threshold=0.05)"


# In processes of their own, whose threads are all known: the tests' own process has more, which
# may be about to end.
def test_many_loops_leave_neither_threads_nor_descriptors() -> None:
    done = program(
        """
        import asyncio, os, time
        import neverblock

        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(30):
            neverblock.run(asyncio.sleep(0), watch=neverblock.Watch())
        while len(os.listdir("/proc/self/task")) != 1:  # They may be about to end.
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) == descriptors
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_watch_that_is_stopped_while_it_starts_leaves_no_thread() -> None:
    done = program(
        """
        import os, threading, time
        import neverblock

        def threads():
            return len(os.listdir("/proc/self/task"))

        loop = neverblock.Loop()
        for _ in range(20):
            watcher = neverblock.Watch().attach(loop)
            thread = threading.Thread(target=watcher.enter)
            thread.start()
            while thread.is_alive() and threads() < 3:
                pass  # Until the first of its threads is there.
            watcher.stop()
            thread.join()
        loop.close()
        while threads() != 1:
            time.sleep(0.01)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_watch_may_be_stopped_in_another_thread_while_its_loop_wakes_up() -> None:
    done = program(
        """
        import threading, time
        import neverblock

        loop = neverblock.Loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        for _ in range(50):
            watcher = neverblock.Watch(threshold=0.001).attach(loop)
            entered = threading.Event()
            loop.call_soon_threadsafe(lambda: (watcher.enter(), entered.set()))
            entered.wait()
            looks = -1
            while watcher._sentinel.looks != looks:  # Until it listens for the sleep's end.
                looks = watcher._sentinel.looks
                time.sleep(0.01)
            loop.call_soon_threadsafe(int)
            watcher.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        """,
        MALLOC_PERTURB_="165",  # What is freed is overwritten.
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"neverblock.Loop({WATCH}).run_until_complete(asyncio.sleep(0))", 0),
        (f"loop = neverblock.Loop({WATCH}); loop.call_soon(sys.exit, 3); loop.run_forever()", 3),
        (f"loop = neverblock.Loop({WATCH}); loop.call_soon(os._exit, 4); loop.run_forever()", 4),
    ],
    ids=["never closed", "sys.exit", "os._exit"],
)
def test_an_end_is_quiet(text: str, code: int) -> None:
    done = program(HEAD + text)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Fatal" not in done.stderr


def test_an_interrupt_ends_a_stall() -> None:
    done = program(
        HEAD + "async def main():\n"
        "    for seconds in (0.3, 0.5):  # The first one only cancels: asyncio.Runner.\n"
        "        threading.Timer(seconds, os.kill, [os.getpid(), signal.SIGINT]).start()\n"
        "    time.sleep(60)\n"
        f"neverblock.run(main(), {WATCH})\n"
    )
    assert "KeyboardInterrupt" in done.stderr
    assert "and counting" in done.stderr
    assert "free again after" in done.stderr


def test_what_on_stall_raises_is_logged_and_the_watch_goes_on() -> None:
    done = program(
        HEAD + "def tell(stall):\n"
        "    logging.getLogger('neverblock.watch').warning('from within')\n"
        "    raise LookupError(f'told {stall.over}')\n"
        "async def main():\n"
        "    for _ in range(2):\n"
        "        time.sleep(0.3)\n"
        "        await asyncio.sleep(0.1)\n"
        "neverblock.run(main(), watch=neverblock.Watch(threshold=0.05, on_stall=tell))\n"
    )
    assert done.returncode == 0
    assert done.stderr.count("LookupError: told False") == 2
    assert done.stderr.count("LookupError: told True") == 2
    assert done.stderr.count("from within") == 4


@pytest.mark.parametrize("what", ["SystemExit(1)", "asyncio.CancelledError()"])
def test_whatever_on_stall_raises_ends_neither_the_watch_nor_the_program(what: str) -> None:
    done = program(
        HEAD + "told = []\n"
        "def tell(stall):\n"
        "    told.append(stall.over)\n"
        f"    raise {what}\n"
        "async def main():\n"
        "    for _ in range(2):\n"
        "        time.sleep(0.3)\n"
        "        await asyncio.sleep(0.1)\n"
        "neverblock.run(main(), watch=neverblock.Watch(threshold=0.05, on_stall=tell))\n"
        "print(told)\n"
    )
    assert (done.returncode, done.stdout) == (0, "[False, True, False, True]\n"), done.stderr
    assert done.stderr.count("failed to report a stall") == 4


def test_a_handler_of_the_log_that_raises_does_not_end_the_watch() -> None:
    done = program(
        HEAD + "class Broken(logging.Handler):\n"
        "    def emit(self, record):\n"
        "        raise LookupError('broken')\n"
        "logging.getLogger('neverblock.watch').addHandler(Broken())\n"
        "async def main():\n"
        "    for _ in range(2):\n"
        "        time.sleep(0.3)\n"
        "        await asyncio.sleep(0.1)\n"
        f"neverblock.run(main(), {WATCH})\n"
        "neverblock.watch.watcher.ledger = neverblock.watch.watcher.Ledger()  # and no summary\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("LookupError: broken") >= 4, done.stderr


def test_stalls_that_nobody_comes_to_are_told_of_and_those_that_began_end() -> None:
    done = program(
        HEAD + "told, free = [], threading.Event()\n"
        "def tell(stall):\n"
        "    free.wait()\n"
        "    told.append(stall.over)\n"
        "async def main():\n"
        "    for _ in range(60):\n"
        "        time.sleep(0.03)\n"
        "        await asyncio.sleep(0.001)\n"
        "    free.set()\n"
        "    while len(told) < 60 or not told[-1]:\n"
        "        await asyncio.sleep(0.01)\n"
        "watch = neverblock.Watch(threshold=0.01, turn_threshold=30, on_stall=tell)\n"
        "neverblock.run(main(), watch=watch)\n"
        "assert 60 <= len(told) < 100, len(told)\n"
        "assert told == [False, True] * (len(told) // 2), told\n"
    )
    assert done.returncode == 0, done.stderr
    assert "stalls are not told: too many wait already" in done.stderr


def test_a_handler_of_the_log_that_blocks_holds_nobody_up() -> None:
    done = program(
        HEAD + "class Slow(logging.Handler):\n"
        "    def emit(self, record):\n"
        "        time.sleep(0.5)\n"
        "logging.getLogger('neverblock.watch').addHandler(Slow())\n"
        "async def main():\n"
        "    for _ in range(5):\n"
        "        time.sleep(0.15)\n"
        "        await asyncio.sleep(0.01)\n"
        f"neverblock.run(main(), {WATCH})\n"
        "print('done')\n"
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_server_that_is_told_to_end_sums_up(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "import time\nasync def handle(stream):\n"
        "    async for chunk in stream:\n"
        "        time.sleep(0.3)\n        await stream.send(chunk)\n"
    )
    with served(f"{app}:handle") as server:
        with server.connect() as client:
            for _ in range(2):
                client.sendall(b"!")
                assert exactly(client, 1) == b"!"
        assert server.stop() == 0
    assert "the loop was blocked 2 times" in server.log
    assert "app.py:4 in handle" in server.log
