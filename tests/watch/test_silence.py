"""No false alarm: idle, loaded, short of CPU, stopped, or halted by a debugger."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.serving import PATIENCE, ROOT
from tests.watch.running import Running, program

SPIN = """
import asyncio, sys, time
import neverblock

def tell(stall):
    if stall.cause != "not scheduled by the system":
        print(stall, flush=True)

async def main():
    print("up", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

async def spin():
    waiting = asyncio.create_task(main())
    while not waiting.done():
        await asyncio.sleep(0)

neverblock.run(spin(), watch=neverblock.Watch(threshold=0.1, on_stall=tell))
"""


@pytest.mark.parametrize("scene", ["idle", "echo", "starved"])
def test_nothing_is_told_where_nobody_blocks(scene: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.silence", scene, "--seconds", "2"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "false alarms: 0" in done.stdout


def test_a_process_that_is_stopped_again_and_again_was_not_stuck() -> None:
    with Running(SPIN) as running:
        assert running.line() == "up\n"
        for _ in range(8):
            running.halt(0.15)
        assert running.end("\n") == ""


def test_a_thread_that_a_c_debugger_holds_is_not_stuck() -> None:
    with Running(SPIN) as running:
        assert running.line() == "up\n"
        running.trace(0.5)
        assert running.end("\n") == ""


@pytest.mark.parametrize("how", ["breakpoint()", "import pdb; pdb.set_trace()"])
def test_a_breakpoint_is_not_a_stall(how: str) -> None:
    with Running(
        f"""
        import asyncio, neverblock
        async def main():
            {how}
            await asyncio.sleep(0)
        neverblock.run(main(), watch=neverblock.Watch(threshold=0.05, on_stall=print))
        """
    ) as running:
        running.until("(Pdb) ")
        running.idle(0.3)
        assert "Stall" not in running.end("continue\n")


def test_what_blocks_before_a_breakpoint_is_told_up_to_it() -> None:
    with Running(
        """
        import neverblock, time
        def tell(stall):
            places = [place for sample in stall.samples for place in sample.stack]
            halted = any("pdb" in place.file for place in places)
            print("told", stall.over, halted, stall.duration < 1, flush=True)
        async def main():
            time.sleep(0.3)
            breakpoint()
        neverblock.run(main(), watch=neverblock.Watch(threshold=0.05, on_stall=tell))
        """
    ) as running:
        assert "told False False True" in running.until("(Pdb) ")
        running.idle(1)
        assert "told True False True" in running.end("continue\n")


def test_a_trace_function_of_a_debugger_pauses_the_watch(tmp_path: Path) -> None:
    (tmp_path / "pydevd.py").write_text(
        "import time\n"
        "def trace(frame, event, argument):\n"
        "    if event == 'line' and frame.f_code.co_name == 'main':\n"
        "        time.sleep(0.15)\n"
        "    return trace\n"
    )
    done = program(
        """
        import sys, time, neverblock, pydevd
        async def main():
            first = 1
            time.sleep(0.3)  # of the program, but while it is debugged
        sys.settrace(pydevd.trace)
        neverblock.run(main(), watch=neverblock.Watch(threshold=0.05))
        """,
        PYTHONPATH=str(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_turn_that_is_traced_by_a_debugger_is_not_long(tmp_path: Path) -> None:
    (tmp_path / "pydevd.py").write_text(
        "import time\n"
        "def trace(frame, event, argument):\n"
        "    if frame.f_code.co_name == 'tiny':\n"
        "        time.sleep(0.001)\n"
        "    return trace\n"
    )
    done = program(
        """
        import asyncio, sys, neverblock, pydevd
        def tiny():
            pass
        async def main():
            for _ in range(100):
                asyncio.get_running_loop().call_soon(tiny)
            await asyncio.sleep(0)
        sys.settrace(pydevd.trace)
        neverblock.run(main(), watch=neverblock.Watch(threshold=0.05))
        """,
        PYTHONPATH=str(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_tool_that_only_traces_does_not_pause_it() -> None:
    done = program(
        """
        import asyncio, sys, time, neverblock
        def trace(frame, event, argument):
            return trace
        async def main():
            time.sleep(0.4)
        sys.settrace(trace)
        neverblock.run(main(), watch=neverblock.Watch(threshold=0.05))
        """
    )
    assert "and counting" in done.stderr
