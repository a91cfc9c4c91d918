"""Debuggers that people use: their halts are no stalls, and the watch does not halt them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.tools import unsanitized
from tests.watch.adapter import Adapter
from tests.watch.running import Running

#: Longer than any threshold here.
HALT = 0.15

DEBUGGED = """\
import asyncio, sys, time

def hit():
    number = 1
    return number

async def main():
    for _ in range(2):
        asyncio.get_running_loop().call_soon(hit)
    await asyncio.sleep(0)
    print("free")
    await asyncio.to_thread(sys.stdin.readline)
    time.sleep(0.3)
"""

LISTEN = """
import os, sys
os.dup2(1, 2)
sys.path.insert(0, {directory!r})
import debugpy, neverblock
print(debugpy.listen(("127.0.0.1", 0))[1])
debugpy.wait_for_client()
import debugged
watch = neverblock.Watch(threshold=0.05, signal={signal}, on_stall=print)
neverblock.run(debugged.main(), watch=watch)
"""


@pytest.mark.parametrize("signal", [0, None])
def test_an_editors_breakpoint_is_not_a_stall(tmp_path: Path, signal: int | None) -> None:
    pytest.importorskip("debugpy")
    path = tmp_path / "debugged.py"
    path.write_text(DEBUGGED)
    text = LISTEN.format(directory=str(tmp_path), signal=signal)
    with (
        Running(text, "-Xfrozen_modules=off") as running,
        closing(Adapter(int(running.line()))) as adapter,
    ):
        adapter.ask("initialize", adapterID="neverblock", pathFormat="path")
        adapter.send("attach", justMyCode=False)
        adapter.event("initialized")
        adapter.ask("setBreakpoints", source={"path": str(path)}, breakpoints=[{"line": 4}])
        adapter.send("configurationDone")
        # Twice in one turn, and once more by a step.
        stopped = adapter.event("stopped")
        running.idle(HALT)
        adapter.ask("next", threadId=stopped["threadId"])
        adapter.event("stopped")
        running.idle(HALT)
        adapter.ask("continue", threadId=stopped["threadId"])
        assert adapter.event("stopped")["reason"] == "breakpoint"
        running.idle(HALT)
        adapter.ask("continue", threadId=stopped["threadId"])
        said = running.until("free\n")
        adapter.ask("disconnect", terminateDebuggee=False)
        adapter.wait_until_gone()
        assert "Stall(" not in said
        assert "neverblock:" not in said
        # It watches again.
        stalls = [line for line in running.end("\n").splitlines() if line.startswith("Stall(")]
        assert ["debugged.py', line=13" in line for line in stalls] == [True, True]


COMPUTE = """\
import asyncio, re, sys

def tell(stall):
    if stall.place and stall.place.line == LINE:
        print("told", stall.over)
    elif stall.cause != "not scheduled by the system":
        print(stall)

async def main():
    print("up")
    await asyncio.to_thread(sys.stdin.readline)
    re.match("(a+)+$", "a" * 23 + "b")

LINE = main.__code__.co_firstlineno + 3
"""
TOLD = ["told False", "told True"]


def computing(directory: Path) -> Running:
    (directory / "computing.py").write_text(COMPUTE)
    return Running(
        f"""
        import sys
        sys.path.insert(0, {str(directory)!r})
        import computing, neverblock
        watch = neverblock.Watch(threshold=0.05, on_stall=computing.tell)
        neverblock.run(computing.main(), watch=watch)
        """
    )


GDB = ["gdb", "-nx", "-batch"]
for setting in ("debuginfod enabled", "auto-solib-add"):
    GDB += ["-iex", f"set {setting} off"]


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_while_gdb_has_halted_it_a_program_is_not_stuck(tmp_path: Path) -> None:
    with computing(tmp_path) as running:
        assert running.line() == "up\n"
        done = subprocess.run(
            [*GDB, "-p", str(running.pid), "-ex", f"shell sleep {HALT}"],
            capture_output=True,
            text=True,
            timeout=60,
            env=unsanitized(),
            check=True,
        )
        assert "detached" in done.stdout
        assert running.end("\n").splitlines() == TOLD


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_a_program_that_runs_under_gdb_is_watched_and_not_halted_for_it(
    tmp_path: Path,
) -> None:
    with computing(tmp_path) as running:
        assert running.line() == "up\n"
        with subprocess.Popen(
            [*GDB, "-p", str(running.pid), "-ex", "echo attached\\n", "-ex", "continue"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=unsanitized(),
        ) as gdb:
            assert gdb.stdout is not None
            said = ""
            while "attached\n" not in said:
                said += (line := gdb.stdout.readline())
                assert line, said
            told = running.end("\n").splitlines()
            said += gdb.stdout.read()
        assert "received signal" not in said
        assert "exited normally" in said
        assert told == TOLD


def test_another_loop_is_watched_in_a_program_that_a_debugger_runs(tmp_path: Path) -> None:
    """The debugger's own frames are at the bottom of every stack then."""
    path = tmp_path / "debugged.py"
    path.write_text(
        """\
import asyncio, os, time, neverblock
from neverblock.watch.everywhere import every_loop

found = []

def block():
    time.sleep(0.4)

async def main():
    block()
    async with asyncio.timeout(30):
        while not (found and found[-1].over):
            await asyncio.sleep(0.01)
    print("told", found[-1].place.function, flush=True)
    os._exit(0)

every_loop(neverblock.Watch(threshold=0.05, on_stall=found.append))
asyncio.run(main())
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "pdb", "-c", "continue", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("told block\n"), done.stdout
