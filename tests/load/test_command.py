"""The command line: what it shows and writes, how it ends, what it refuses."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from neverblock.cli.load import Allowed
from neverblock.cli.refusal import Refusal
from neverblock.load import Distribution, Plan, PlanError, Result
from tests.load import stubs
from tests.load.stubs import stub
from tests.servers.serving import PATIENCE, neverblock, neverblock_here


def test_it_shows_and_writes_what_it_measured(tmp_path: Path) -> None:
    with stub(stubs.echo) as address:
        done = neverblock(
            *("load", f"tcp://{address}", "--duration", "0.3", "--idle", "2", "--rate", "100"),
            *("--json", str(tmp_path / "all.json"), "--hgrm", str(tmp_path / "all.hgrm")),
        )
    assert done.returncode == 0, done.stderr
    for words in ("throughput", "latency p99.99", "idle connections", "errors"):
        assert words in done.stdout
    result = Result.from_json(json.loads((tmp_path / "all.json").read_text()))
    assert result.corrected
    table = (tmp_path / "all.hgrm").read_text()
    assert table.split()[:2] == ["Value", "Percentile"]
    assert f"TotalCount     = {result.requests:12.3f}" in table


def test_mean_and_deviation_of_a_table_are_both_in_milliseconds(tmp_path: Path) -> None:
    Distribution.of([(1_000_000, 1), (3_000_000, 1)]).write(tmp_path / "two.hgrm")
    [line] = re.findall(r"#\[Mean .*", (tmp_path / "two.hgrm").read_text())
    mean, deviation = map(float, re.findall(r"= +([\d.]+)", line))
    assert (mean, deviation) == (pytest.approx(2, rel=0.001), pytest.approx(1, rel=0.002))


def test_errors_beyond_what_is_allowed_are_a_failure() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        target = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        options = ("load", target, "--connections", "5", "--quiet")
        assert neverblock(*options).returncode == 1
        assert neverblock(*options, "--max-errors", "4").returncode == 1
        done = neverblock(*options, "--max-errors", "5")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_share_of_errors_may_be_allowed() -> None:
    result = Result.empty("tcp://127.0.0.1:1")
    result.answers = 98
    result.fail("timeout", count=2)
    assert not Allowed.parse("2%").exceeded(result)
    assert Allowed.parse("1.9%").exceeded(result)
    for wrong in ("", "1.5", "-1", "x%", "1 %"):
        with pytest.raises(Refusal):
            Allowed.parse(wrong)


def test_a_share_of_errors_is_of_all_that_was_asked_also_before_the_measured_time() -> None:
    with stub(stubs.refusing_every(10)) as address:
        options = ("load", f"http://{address}/", "--warmup", "1", "--duration", "0.1", "--quiet")
        allowed = neverblock(*options, "--max-errors", "20%")
        assert (allowed.returncode, allowed.stderr) == (0, "")
        assert neverblock(*options, "--max-errors", "5%").returncode == 1


def test_ctrl_c_gives_the_result_so_far() -> None:
    stubs.asked.clear()
    with stub(stubs.echo) as address:
        command = [sys.executable, "-m", "neverblock", "load", f"tcp://{address}", "--json", "-"]
        with subprocess.Popen(
            [*command, "--duration", "600", "--processes", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert stubs.asked.wait(PATIENCE)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    data = json.loads(output)
    assert data["interrupted"]
    assert data["errors"] == {}
    assert 0 < data["seconds"] < 600
    assert data["client"]["processes"] == 2


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux, to wait for them")
def test_client_processes_end_with_who_started_them() -> None:
    stubs.asked.clear()
    with stub(stubs.echo) as address:
        command = [sys.executable, "-m", "neverblock", "load", f"tcp://{address}"]
        with subprocess.Popen([*command, "--processes", "2"], stderr=subprocess.DEVNULL) as process:
            assert stubs.asked.wait(PATIENCE)
            listing = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            ends = [os.pidfd_open(int(pid)) for pid in listing.split()]
            process.kill()
        assert len(ends) == 2
        for end in ends:
            assert select.select([end], [], [], PATIENCE)[0]
            os.close(end)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ftp://127.0.0.1:1"], "is no URL of tcp://"),
        (["tcp://127.0.0.1"], "no port; write tcp://127.0.0.1:PORT"),
        (["tcp://127.0.0.1:1/page"], "only a host and a port"),
        (["http://user@127.0.0.1"], "passwords are not sent"),
        (["tcp://127.0.0.1:1", "--processes", "60"], "--processes: 60 processes cannot share 50"),
        (["tcp://127.0.0.1:1", "--cores", "9999"], "--cores: there is no CPU 9999"),
        (["tcp://127.0.0.1:1", "--cores", "x"], "write numbers of CPUs"),
        (["tcp://127.0.0.1:1", "--insecure"], "--insecure: tcp:// has no certificates"),
        (["tls://127.0.0.1:1", "--ca", "/none.pem"], "--ca: /none.pem: No such file"),
        (["redis://127.0.0.1:1", "--mix", "get=1,del=2"], "--mix: write commands of"),
        (["redis://127.0.0.1:1", "--mix", "get=0"], "--mix: one command at least"),
        (["tcp://127.0.0.1:1", "--idle", "2000000000"], "--idle: 2000000050 connections"),
        (["tcp://127.0.0.1:1", "--max-errors", "many"], "--max-errors: write a number"),
        (["tcp://127.0.0.1:1", "--json", "/none/x.json"], "/none/x.json: No such file"),
        (["tcp://127.0.0.1:1", "--duration", "0"], "--duration"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is(
    arguments: list[str], words: str
) -> None:
    done = neverblock_here("load", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("connections", 0),
        ("connections", "5"),
        ("duration", float("nan")),
        ("rate", 0),
        ("timeout", -1.0),
        ("size", 2**40),
        ("pipeline", True),
        ("cores", [0]),
        ("backend", "none"),
        ("target", None),
    ],
)
def test_a_plan_is_checked_when_it_is_made(field: str, value: object) -> None:
    with pytest.raises(PlanError) as caught:
        Plan(**{"target": "tcp://127.0.0.1:1", field: value})  # type: ignore[arg-type]
    assert caught.value.name == field
