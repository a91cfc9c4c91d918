"""``--log-format``: what a server logs, for people and for programs."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.servers.serving import WAYS, exactly, served

APP = """
import logging

async def failing(stream):
    await stream.receive()
    raise LookupError("no \\"such\\" word\\n")

async def deaf(stream):
    await stream.receive_exactly(1)
    await stream.send(b"hello")
    await stream.receive_exactly(5)  # Of which one byte is there.

async def telling(stream):
    logging.getLogger("app").info("two\\nlines, %d", 5, extra={"customer": 7})
    await stream.send(b"told")
"""


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "app.py"
    path.write_text(APP)
    return str(path)


def records(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines()]


@pytest.mark.parametrize("how", WAYS, ids=" ".join)
def test_json_is_an_object_on_each_line(app: str, how: tuple[str, ...]) -> None:
    with served(f"{app}:failing", *how, "--log-format", "json") as server:
        assert server.lines[0].startswith("listening on ")  # That stays as it is.
        with server.connect() as client:
            peer = "{}:{}".format(*client.getsockname())
            client.sendall(b"fail")
            assert exactly(client, 10) == b""
        assert server.stop() == 0
        logged = records(server.own_log)
    [failure] = [record for record in logged if record["level"] == "ERROR"]
    [draining] = [record for record in logged if record["message"].startswith("SIGTERM: draining")]
    assert failure["level"] == "ERROR"
    assert failure["logger"] == "neverblock.server"
    assert failure["message"] == f"handler failed, closing {peer}"
    assert failure["peer"] == peer
    assert 'LookupError: no "such" word' in failure["exc_info"]
    apart = how in (("--model", "process"), ("--workers", "2"))
    assert (failure["pid"] != server.pid) is apart
    assert draining["pid"] == server.pid
    for record in logged:
        assert datetime.fromisoformat(record["time"]).utcoffset() == timedelta(0)


def test_what_a_handler_logs_is_one_line_too(app: str) -> None:
    with served(f"{app}:telling", "--log-format", "json") as server:
        with server.connect() as client:
            assert exactly(client, 10) == b"told"
        assert server.stop() == 0
        [told, _] = records(server.own_log)
    assert told["logger"] == "app"
    assert told["message"] == "two\nlines, 5"
    assert told["customer"] == 7


@pytest.mark.parametrize("model", ["loop", "process", "thread"])
def test_counts_are_fields(app: str, model: str) -> None:
    options = ("--model", model, "--log-format", "json", "--drain-timeout", "0.2")
    with served(f"{app}:deaf", *options) as server:
        with server.connect() as one, server.connect() as two:
            for client in (one, two):
                client.sendall(b"12")
                assert exactly(client, 5) == b"hello"
            server.send()
            server.wait()
        [aborted] = [record for record in records(server.own_log) if "count" in record]
    assert aborted["count"] == 2
    assert aborted["model"] == model
    assert aborted["level"] == "WARNING"


def test_text_has_time_level_and_message(app: str) -> None:
    with served(f"{app}:telling") as server:
        assert server.stop() == 0
        [line] = server.own_log.splitlines()
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO neverblock\.server: SIGTERM: draining.*"
    assert re.fullmatch(pattern, line)
