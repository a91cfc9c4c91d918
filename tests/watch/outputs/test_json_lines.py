"""A JSON object on a line for each event, whoever shares the file."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import neverblock
from neverblock.errors import OutputError
from neverblock.watch import Cause, JsonLines, Place, Stall
from neverblock.watch.report import fields
from tests.watch.outputs.stalling import program, stall


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_stall_is_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "stalls.jsonl"
    began, over = stall(JsonLines(path))
    for told, line in zip((began, over), lines(path), strict=True):
        expected = {
            "time": line["time"],
            "pid": os.getpid(),
            **fields(told),
            "stall_stack": [asdict(each) for each in told.stack],
        }
        if told.over:
            expected["stall_samples"] = [
                {
                    "seconds": round(sample.seconds, 4),
                    "count": sample.count,
                    "stack": [asdict(each) for each in sample.stack],
                }
                for sample in told.samples
            ]
        assert line == expected
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
    assert [line["stall_over"] for line in lines(path)] == [False, True]
    [first, *_] = lines(path)[1]["stall_stack"]
    assert (first["function"], first["coroutine"]) == ("outer", False)
    source = Path(first["file"]).read_text().splitlines()[first["line"] - 1]
    assert source[first["column"] : first["end_column"]] == "time.sleep(BLOCKED)"


PLACES = """\
import asyncio, threading, time

lock = threading.Lock()

async def inner():
    lock.acquire()

async def outer():
    await inner()

def hold():
    with lock:
        time.sleep(0.4)

async def main():
    threading.Thread(target=hold, name="holder").start()
    await asyncio.sleep(0.05)
    await outer()

asyncio.run(main())
"""


def test_who_waits_for_whom_is_told_by_places(tmp_path: Path) -> None:
    options = ["--stall-threshold", "0.05", "--stall-log", "stalls.jsonl"]
    done = program(tmp_path, PLACES, *options)
    assert done.returncode == 0, done.stderr
    for line in lines(tmp_path / "stalls.jsonl"):
        chain = [(each["function"], each["line"], each["column"]) for each in line["stall_chain"]]
        assert chain == [("main", 18, 4), ("outer", 9, 4), ("inner", 6, 4)]
        assert all(each["coroutine"] for each in line["stall_chain"])
        assert (line["stall_line"], line["stall_column"], line["stall_end_column"]) == (6, 4, 18)
        assert line["stall_culprit"]["line"] == 13
        assert line["stall_culprit_thread"] == "holder"


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    path, old = tmp_path / "stalls.jsonl", tmp_path / "old.jsonl"
    output = JsonLines(path)
    stall(output)
    path.rename(old)
    stall(output)
    assert (len(lines(path)), len(lines(old))) == (2, 2)


SHARE = """
import sys
from neverblock.watch import Cause, JsonLines, Place, Stall
output = JsonLines(sys.argv[1])
place = Place("x" * 5_000, int(sys.argv[2]), "f")
for _ in range(100):
    output.tell(Stall(1.0, Cause.SLEEPING, place, stack=(place,)))
"""


def test_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "stalls.jsonl"
    processes = [
        subprocess.Popen([sys.executable, "-c", SHARE, path, str(number)]) for number in range(3)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    found = [line["stall_line"] for line in lines(path)]
    assert sorted(found) == [0] * 100 + [1] * 100 + [2] * 100


def test_what_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "stalls.jsonl"
    JsonLines(path).tell(Stall(1.0, Cause.IO, Place("\udcff\n", 1, "f"), source='"\u2028"'))
    [line] = lines(path)
    assert (line["stall_file"], line["stall_source"]) == ("\udcff\n", '"\u2028"')


def test_a_path_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory; name a file in a dir") as no:
        JsonLines(tmp_path / "nothing" / "stalls.jsonl")
    assert no.value.path == str(tmp_path / "nothing" / "stalls.jsonl")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OutputError, match=r"cannot write \S*fifo"):
        JsonLines(tmp_path / "fifo")  # nobody reads it: it must not wait for one
    (tmp_path / "link").symlink_to("nothing/stalls.jsonl")
    with pytest.raises(OutputError, match=r"cannot write \S*link: No such file or directory"):
        JsonLines(tmp_path / "link")


def test_the_file_is_there_once_a_loop_is_watched_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "stalls.jsonl"
    watch = neverblock.Watch(outputs=[JsonLines(path)])
    assert not path.exists()
    neverblock.run(asyncio.sleep(0), watch=watch)
    assert path.read_text() == ""


def test_a_disk_that_is_full_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    stall(JsonLines("/dev/full"), times=2)
    [said] = [record for record in caplog.records if "an output" in record.getMessage()]
    assert "No space left" in said.getMessage()


def test_the_command_writes_one(tmp_path: Path) -> None:
    app = """\
        import asyncio, time
        async def main():
            time.sleep(0.3)
        asyncio.run(main())
        """
    options = ["--stall-threshold", "0.05", "--stall-log"]
    done = program(tmp_path, app, *options, "stalls.jsonl")
    assert done.returncode == 0, done.stderr
    assert [line["stall_line"] for line in lines(tmp_path / "stalls.jsonl")] == [3, 3]
    done = program(tmp_path, app, *options, "nothing/stalls.jsonl")
    assert done.returncode == 2
    assert done.stderr.startswith("neverblock: --stall-log: cannot write ")
    assert done.stderr.count("\n") == 1
