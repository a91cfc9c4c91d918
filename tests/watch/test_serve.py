"""``neverblock serve`` tells which line of a handler blocks its loop."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from tests.servers.serving import exactly, served

APP = """\
import time

async def handle(stream):
    async for chunk in stream:
        time.sleep(0.4)
        await stream.send(chunk)
"""

HOLDS_THE_GIL = """\
import re

async def handle(stream):
    async for chunk in stream:
        re.match(r"(a+)+$", "a" * 25 + "\\t„ä“")
        await stream.send(chunk)
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_handler_that_blocks_is_named(tmp_path: Path, workers: str) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP)
    with (
        served(f"{app}:handle", "--workers", workers) as server,
        server.connect() as client,
    ):
        client.sendall(b"!")
        assert exactly(client, 1) == b"!"
        server.wait_until_logged("loop free again after")
        assert "app.py:5 in handle" in server.log
        assert "hint: await asyncio.sleep(0.4)" in server.log


def test_a_line_that_holds_the_gil_is_an_object_as_well(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(HOLDS_THE_GIL)
    with served(f"{app}:handle", "--log-format", "json") as server, server.connect() as client:
        client.sendall(b"!")
        assert exactly(client, 1) == b"!"
        server.wait_until_logged("loop free again after")
        events = [json.loads(line) for line in server.log.splitlines()]
    began = next(event for event in events if "stall_cause" in event)
    assert began["logger"] == "neverblock.watch"
    assert began["level"] == "WARNING"
    assert began["stall_over"] is False
    assert began["stall_cause"] in ("computing in C, GIL held", "not scheduled by the system")
    assert (began["stall_file"], began["stall_line"]) == (str(app), 5)
    assert began["stall_function"] == "handle"
    assert began["stall_source"] == HOLDS_THE_GIL.splitlines()[4].strip()
    assert "and counting" in began["message"]
    assert datetime.fromisoformat(began["time"]).tzinfo is not None


@pytest.mark.parametrize("off", ["off", "0"])
def test_off_leaves_no_thread(tmp_path: Path, off: str) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP)
    with served(f"{app}:handle", "--stall-threshold", off) as server:
        assert len(list(Path(f"/proc/{server.pid}/task").iterdir())) == 1
        with server.connect() as client:
            client.sendall(b"!")
            assert exactly(client, 1) == b"!"


def test_echo_at_full_speed_is_no_stall() -> None:
    with served("examples/echo.py:handle", "--stall-threshold", "0.05") as server:
        with server.connect() as client:
            for _ in range(20_000):
                client.sendall(b"!")
                exactly(client, 1)
        assert server.stop() == 0
    causes = [line for line in server.log.splitlines() if line.startswith("    ")]
    assert all("not scheduled by the system" in line for line in causes), server.log
