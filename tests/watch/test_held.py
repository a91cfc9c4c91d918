"""What holds the GIL is told while it does, and once, whatever the reporter is at meanwhile."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.watch.running import Running, program

#: Its C code holds the GIL until there is something to read.
HEAD = """
import asyncio, ctypes, linecache, logging, os, threading, time
import neverblock

os.dup2(1, 2)
library = ctypes.PyDLL(None)  # Its calls keep the GIL.
entered, explodes = threading.Event(), threading.Event()
found = []

def hold():
    library.read(0, ctypes.create_string_buffer(1), 1)

def explode():
    while not entered.is_set():
        time.sleep(0.001)
    explodes.set()
    hold()

def work():
    pass

def tell(stall):
    found.append(stall)
    work()

def over(callback):
    return any(stall.over and callback in str(stall.stack) for stall in found)

async def main():
    time.sleep(0.3)
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(explode)
    while not over("explode"):
        await asyncio.sleep(0.005)
"""
RUN = """
neverblock.run(main(), watch=neverblock.Watch(threshold=0.05, on_stall=tell))
"""

#: What the reporter is at when C code takes the GIL, for the first time in its process.
WORK = {
    "another stall's on_stall, which waits": """
def work():
    entered.set()
    explodes.wait()
""",
    "another stall's on_stall, which computes": """
def work():
    entered.set()
    while not explodes.is_set():
        pass
""",
    "another stall's on_stall, which sleeps for a while": """
def work():
    entered.set()
    explodes.wait()
    time.sleep(0.5)
""",
    "another stall's record in the log": """
class Handler(logging.Handler):
    def emit(self, record):
        entered.set()
        explodes.wait()

logging.getLogger("neverblock.watch").addHandler(Handler())
logging.getLogger("neverblock.watch").addHandler(logging.StreamHandler())
""",
    "the same stall, whose line it reads": """
def check(file=None):
    entered.set()
    explodes.wait()

linecache.checkcache = check

async def main():
    asyncio.get_running_loop().call_soon(explode)
    while not over("explode"):
        await asyncio.sleep(0.005)
""",
}


@pytest.mark.parametrize("work", WORK)
def test_it_is_told_whatever_the_reporter_is_at(work: str) -> None:
    with Running(HEAD + WORK[work] + RUN) as running:
        meanwhile = running.until("in read, GIL held\n")
        afterwards = running.end("\n")
    assert re.search(r"and counting: <string>:\d+ in hold\n", meanwhile)
    assert not re.search(r"and counting: <string>:\d+ in (?:hold|explode)", afterwards)
    assert "free again" in afterwards


def test_an_on_stall_that_holds_the_gil_is_told_as_well() -> None:
    told = """
def tell(stall):
    found.append(stall)
    if stall.over and len(found) == 2:
        hold()

async def main():
    time.sleep(0.3)
    while len(found) < 4:
        await asyncio.sleep(0.001)
"""
    with Running(HEAD + told + RUN) as running:
        running.until("and counting: a callback without Python code, waiting for the GIL\n")
        assert running.end("\n").count("free again") == 1


def test_a_reporter_that_gets_on_slowly_is_waited_for() -> None:
    """Each call of its lets the GIL go, for which it then waits."""
    done = program(
        HEAD
        + """
def work():
    entered.set()
    while not over("spin"):
        os.stat("/")

def spin():
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        pass
    found.append(neverblock.watch.Stall(0, "", None, True, stack=("spin",)))

async def main():
    time.sleep(0.3)
    await asyncio.sleep(0)
    while not entered.is_set():
        await asyncio.sleep(0.001)
    asyncio.get_running_loop().call_soon(spin)
    while not over("'spin'"):
        await asyncio.sleep(0.005)
"""
        + RUN
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "and counting" in done.stdout
    assert "GIL held" not in done.stdout


def test_an_object_has_points_where_the_locale_has_commas(tmp_path: Path) -> None:
    if shutil.which("localedef") is None:
        pytest.skip("a locale is made by localedef(1)")
    make = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")]
    if subprocess.run(make, capture_output=True, check=False).returncode:
        pytest.skip("this system has no source of such a locale")
    done = program(
        """
import asyncio, locale, re
import neverblock

locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
print(locale.localeconv()["decimal_point"])

async def main():
    re.match(r"(a+)+$", "a" * 25 + "b")

neverblock.run(main(), watch=neverblock.Watch(threshold=0.05, log_format="json"))
""",
        LOCPATH=str(tmp_path),
    )
    assert done.stdout == ",\n", done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("{")]
    told = json.loads(line)
    assert 0.05 <= told["stall_seconds"] < 60
    assert 0 <= told["stall_cpu_seconds"] < 60
    assert told["stall_line"] > 0
