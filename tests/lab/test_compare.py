"""``neverblock compare`` as a person uses it: short runs, what is kept, what is refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neverblock.lab.results import load, summaries
from neverblock.lab.ways import Way
from tests.servers.serving import PATIENCE, ROOT, neverblock, neverblock_here

SAMPLE = Path(__file__).with_name("sample.json")


def test_an_experiment_is_measured_kept_and_shown_again(tmp_path: Path) -> None:
    ended = neverblock(
        "compare",
        "--experiment",
        "scanning",
        "--quick",
        "--backends",
        "poll,select",
        "--out",
        str(tmp_path / "report"),
    )
    assert ended.returncode == 0, ended.stderr
    results = load(tmp_path / "report" / "results.json")
    assert results.complete
    looked_at = summaries(results.rows, "scanning", "descriptors looked at")
    counts = {
        dict(case)["idle"]: found.median
        for case, found in looked_at.items()
        if dict(case)["backend"] == "poll"
    }
    assert counts[10_000] > 9_000 > counts[0]
    [reason] = {each.reason for each in results.missing}
    assert reason.startswith("select cannot watch descriptor 1024: it can watch 0 to 1023 only")
    [verdict] = results.verdicts
    assert verdict.title in (tmp_path / "report" / "index.html").read_text()
    assert verdict.facts["poll, growth"].value > 2
    for fact in verdict.facts.values():
        for row in fact.rows:
            assert any(
                (each.case, each.metric) == (row["case"], row["metric"]) for each in results.rows
            )
    again = neverblock("compare", "--from", str(tmp_path / "report" / "results.json"))
    assert again.returncode == 0
    assert verdict.title in " ".join(again.stdout.split())


def test_ways_to_serve_are_compared(tmp_path: Path) -> None:
    ended = neverblock(
        *("compare", "examples/echo.py:handle", "--models", "loop,workers,pool"),
        *("--connections", "1,70", "--quick"),
        *("--out", str(tmp_path)),
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    results = load(tmp_path / "results.json")
    throughput = summaries(results.rows, "models", "throughput")
    assert len(throughput) == 6
    assert all(found.median > 0 for found in throughput.values())

    def one(metric: str, **case: object) -> float:
        [found] = [
            summary.median
            for key, summary in summaries(results.rows, "models", metric).items()
            if case.items() <= dict(key).items()
        ]
        return found

    assert one("threads", model="pool", connections=70) == 65
    assert one("threads", model="loop", connections=70) == 1
    assert one("processes", model="loop", connections=70) == 1
    assert one("errors", model="loop", connections=70) == 0
    assert one("errors", model="pool", connections=70) == 6  # It has 64 threads.
    assert one("pss per connection", model="pool") > one("pss per connection", model="loop")
    for model in ("loop", "workers"):
        assert one("wake-ups", model=model, connections=1) > 0.5
        assert one("descriptors looked at", model=model, connections=1) > 0
    assert one("anonymous per connection", model="pool") > one(
        "anonymous per connection", model="loop"
    )
    assert not results.missing
    assert {verdict.experiment for verdict in results.verdicts} == {"models"}


@pytest.mark.parametrize("peer", ["nothing", "nothing.loops", "json.loops"])
def test_a_loop_that_is_not_installed_is_an_obstacle(peer: str) -> None:
    assert Way("loop", peer=peer).obstacle() == f"{peer} is not installed; pip install {peer}"
    assert Way("loop", peer="asyncio").obstacle() is None


HANDLERS = """
import os, time
async def crashes(stream):
    os.abort()
async def deaf(stream):
    await stream.receive_exactly(1_000_000_000)
async def leaves(stream):
    pass
if os.environ.get("FAIL"):
    raise RuntimeError("no import today")
if os.environ.get("HANG"):
    os._exit(7)
"""


@pytest.mark.parametrize(
    ("name", "environment", "told"),
    [
        ("crashes", {}, "the server was ended by SIGABRT"),
        ("leaves", {}, "the server ended a connection"),
        ("deaf", {}, "0 of 1 clients were answered: no answer within"),
        ("nothing", {}, "it has crashes, deaf, leaves"),
        ("deaf", {"FAIL": "1"}, "no import today"),
        ("deaf", {"HANG": "1"}, "the server ended: it said nothing"),
    ],
)
def test_what_goes_wrong_with_the_server_is_told(
    tmp_path: Path, name: str, environment: dict[str, str], told: str
) -> None:
    (tmp_path / "app.py").write_text(HANDLERS)
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "neverblock", "compare", f"{tmp_path}/app.py:{name}"),
            *("--models", "loop", "--connections", "1", "--quick", "--out", f"{tmp_path}/out"),
        ],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    [missing] = load(tmp_path / "out" / "results.json").missing
    assert told in missing.reason


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--experiment", "scaning"], "there is no scaning; did you mean scanning?"),
        (["--models", "thraed"], "there is no thraed; did you mean thread?"),
        (["--models", "x"], "there are loop, workers, iterative"),
        (["--models", ","], "--models: name one of loop"),
        (["--backends", "epol"], "did you mean epoll?"),
        (["--peers", "asyncio,uvlop"], "--peers: there is no uvlop; did you mean uvloop?"),
        (["--peers", "my.loops"], "there is no my.loops; name a module that can be imported"),
        (["--peers", ".."], "there is no ..; name a module that can be imported"),
        (["--connections", "1,0"], "write numbers from 1 on, like 1,10,100, not '0'"),
        (["--connections", "ten"], "not 'ten'"),
        (["--from", "nothing.json"], "cannot read nothing.json: No such file"),
        (["--baseline", "nothing.json"], "cannot read nothing.json: No such file"),
        (["--from", __file__], "not JSON"),
        (["--from", str(SAMPLE), "app.py:handle"], "--from measures nothing; leave out app.py"),
        (["--out", "/proc/nothing"], "cannot write in /proc/nothing"),
        (["--out", __file__], "File exists; name another folder"),
    ],
)
def test_what_cannot_be_done_is_told_before_the_run(arguments: list[str], told: str) -> None:
    ended = neverblock_here("compare", *arguments)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_loop_may_be_a_module_of_the_current_folder(tmp_path: Path) -> None:
    """The installed command begins its search for modules elsewhere."""
    (tmp_path / "my_loops.py").write_text(
        "import asyncio\ndef new_event_loop():\n    return asyncio.SelectorEventLoop()\n"
    )
    ended = subprocess.run(
        [
            *(Path(sys.executable).with_name("neverblock"), "compare", "--models", "loop"),
            *("--peers", "my_loops", "--connections", "1", "--quick", "--out", "out"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tmp_path,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    results = load(tmp_path / "out" / "results.json")
    assert not results.missing
    assert "my_loops" in {row.case.get("loop") for row in results.rows}


def test_a_report_that_could_not_be_drawn_is_told_before_the_run(tmp_path: Path) -> None:
    """With the extra ``load`` alone everything can be measured, and no chart be drawn."""
    program = (
        "import sys; sys.modules['vl_convert'] = None\n"
        "from neverblock.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "compare", "--out", f"{tmp_path}/report"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "neverblock: --out: the report needs vl_convert, which is not installed: "
        "pip install 'neverblock[lab]'\n"
    )
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_held_against_an_older_one(tmp_path: Path) -> None:
    same = neverblock_here("compare", "--from", str(SAMPLE), "--baseline", str(SAMPLE))
    assert same.returncode == 0
    assert "100.0%" in same.stdout
    document = json.loads(SAMPLE.read_text())
    for row in document["rows"]:
        if row["metric"] == "throughput" and row["case"].get("backend") == "epoll":
            row["value"] *= 0.5
    slower = tmp_path / "slower.json"
    slower.write_text(json.dumps(document))
    worse = neverblock_here("compare", "--from", str(slower), "--baseline", str(SAMPLE))
    assert worse.returncode == 1
    assert "worse" in worse.stdout
    allowed = neverblock_here(
        "compare", "--from", str(slower), "--baseline", str(SAMPLE), "--tolerance", "0.6"
    )
    assert allowed.returncode == 0


def test_it_is_told_in_what_else_than_the_code_a_run_differs(tmp_path: Path) -> None:
    document = json.loads(SAMPLE.read_text())
    document["settings"] |= {"size": 4096, "handler": "other.py:[handle]", "rounds": 9, "seed": 2}
    document["machine"] |= {"cores": 4, "load average": 9.9}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    beside = neverblock_here("compare", "--from", str(other), "--baseline", str(SAMPLE))
    _, _, told = beside.stdout.partition("The runs differ in more than the code:\n")
    assert told.splitlines()[:3] == [
        "  handler: examples/echo.py:handle, now other.py:[handle]",
        "  size: 1,024 B, now 4,096 B",
        "  cores: 2, now 4",
    ]


@contextmanager
def in_round(number: int, out: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that has begun that one of its fifty rounds."""
    command = [sys.executable, "-u", "-m", "neverblock", "compare", "--experiment", "scanning"]
    command += ["--rounds", "50", "--backends", "epoll", "--out", str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        try:
            while f"round {number} of 50" not in (line := process.stdout.readline()):
                assert line
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_is_kept_when_it_is_interrupted(tmp_path: Path, number: int) -> None:
    with in_round(2, tmp_path) as process:
        os.kill(process.pid, number)
        rest, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, rest + told
    results = load(tmp_path / "results.json")
    assert not results.complete
    assert {row.round for row in results.rows} >= {1}
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_goes_ends_the_run_with_what_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "report"
    with in_round(1, out) as process:
        out.rmdir()
        shown, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert f"cannot write in {out}: No such file or directory" in told
    assert told.count("\n") == 1
    assert "What a crowd of idle clients costs" in shown
