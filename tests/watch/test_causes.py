"""Ways to block a loop: each is found while it lasts, at its line, with its cause."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "ways-to-block.md"
BLOCKERS = Path(__file__).parent / "programs" / "blockers.py"

SLEEPING, IO, LOCK = "sleeping", "reading/writing", "waiting for a lock"
COMPUTING, HELD = "computing", "computing in C, GIL held"

CAUSES = {
    "time_sleep": SLEEPING,
    "regex": HELD,
    "sort": HELD,
    "total": HELD,
    "json_dumps": HELD,
    "pickle_dumps": HELD,
    "long_number": HELD,
    "python_loop": COMPUTING,
    "recursion": COMPUTING,
    "compress": COMPUTING,
    "derive": COMPUTING,
    "open_fifo": IO,
    "read_pipe": IO,
    "receive": IO,
    "select_socket": IO,
    "select_nothing": SLEEPING,
    "accept": IO,
    "http": IO,
    "write_pipe": IO,
    "future_result": LOCK,
    "file_lock": LOCK,
    "lock": LOCK,
    "event": LOCK,
    "queue_get": LOCK,
    "join_thread": LOCK,
    "collect": "garbage collection",
    "sqlite_busy": SLEEPING,
    "run_program": SLEEPING,
    "run_shell": SLEEPING,
    "slow_import": SLEEPING,
    "hogged": "waiting for the GIL",
}

HINTS = {
    "time_sleep": "await asyncio.sleep(SECONDS)",
    "run_program": "create_subprocess_exec",
    "read_pipe": "asyncio.to_thread",
    "lock": "asyncio.Lock",
    "regex": "ProcessPoolExecutor",
    "http": "an asynchronous HTTP client",
}

#: Asks a name server that never answers, in a network and with a resolv.conf of its own.
UNANSWERED = """
import asyncio, socket, subprocess, sys
import neverblock

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))

async def main():
    try:
        socket.getaddrinfo("slow.example", 80)
    except socket.gaierror:
        pass

neverblock.run(main(), watch=neverblock.Watch(threshold=0.1))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, list[dict[str, Any]]]:
    """What the watch says of every way to block, in one process after the other."""
    done = subprocess.run(
        [sys.executable, BLOCKERS], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        line["name"]: [{**each, "stderr": done.stderr} for each in line["found"]] for line in lines
    }


def line_of(name: str) -> int:
    lines = BLOCKERS.read_text().splitlines()
    [line] = [
        number
        for number, text in enumerate(lines, 1)
        if re.search(rf"# {name}(?:  # noqa.*)?$", text)
    ]
    return line


@pytest.mark.parametrize("name", CAUSES)
def test_it_is_found_with_line_and_cause(found: dict[str, list[dict[str, Any]]], name: str) -> None:
    first, *others = found[name]
    assert first["cause"] == CAUSES[name], first
    if name == "slow_import":
        assert (Path(first["file"]).name.partition("_")[0], first["line"]) == ("slow", 2)
    else:
        assert (first["file"], first["line"]) == (str(BLOCKERS), line_of(name))
    assert not first["over"]
    assert first["duration"] >= 0.1
    assert others[-1]["over"]
    assert others[-1]["duration"] > first["duration"]


@pytest.mark.parametrize("name", HINTS)
def test_a_hint_says_what_to_write_instead(
    found: dict[str, list[dict[str, Any]]], name: str
) -> None:
    assert HINTS[name] in found[name][0]["hint"]


def test_a_name_server_that_does_not_answer_is_found(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("a network of its own needs root, unshare(1) and ip(8)")
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    program = tmp_path / "program.py"
    program.write_text(UNANSWERED)
    done = subprocess.run(
        ["unshare", "--mount", "--net", sys.executable, program, resolver],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "not scheduled by the system" not in done.stderr:
        assert f"{program}:12 in main" in done.stderr
        assert "reading/writing in poll" in done.stderr


def test_the_page_tells_every_way() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert dict(rows) == CAUSES


@pytest.mark.parametrize(("name", "culprit"), [("lock", "hold"), ("hogged", "explode")])
def test_the_line_of_another_thread_is_named(
    found: dict[str, list[dict[str, Any]]], name: str, culprit: str
) -> None:
    assert found[name][0]["culprit"].endswith(culprit)


def test_what_holds_the_gil_is_told_meanwhile(found: dict[str, list[dict[str, Any]]]) -> None:
    first = found["regex"][0]
    assert first["told"]
    where = f"programs/blockers.py:{line_of('regex')} in regex"
    text = first["stderr"]
    assert re.search(rf"blocked \d+ ms and counting: \S*{re.escape(where)}\n .*GIL held\n", text)
    assert re.search(rf"free again after [\d.]+ m?s: \S*{re.escape(where)} \(", text)
