"""Annotations: what a runner reads from standard output."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverblock.watch import Annotations, Cause, Place, Stall
from neverblock.watch.outputs.annotations import MOST, annotation, data, property_of
from tests.watch.others import watch
from tests.watch.outputs.stalling import program, stall

COMMAND = re.compile(r"::warning (?P<properties>.*?)::(?P<message>.*)")


def decoded(text: str) -> str:
    """As a runner does it: the percent sign last."""
    for mark, escaped in [("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C"), ("%", "%25")]:
        text = text.replace(escaped, mark)
    return text


def parsed(line: str) -> tuple[dict[str, str], str]:
    """Properties and message of a command."""
    match = COMMAND.fullmatch(line)
    assert match, line
    pairs = [pair.split("=", 1) for pair in match["properties"].split(",")]
    return {name: decoded(value) for name, value in pairs}, decoded(match["message"])


@given(st.text(), st.text())
def test_any_text_comes_back(message: str, value: str) -> None:
    line = f"::warning title={property_of(value)}::{data(message)}"
    assert not re.search(r"[\r\n]", line)
    match = re.fullmatch(r"(?s)::warning title=([^:,]*)::(.*)", line)
    assert match
    assert (decoded(match[1]), decoded(match[2])) == (value, message)


def test_a_stall_is_a_warning_at_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(Path(__file__).parents[3]))
    monkeypatch.chdir(tmp_path)
    output = Annotations()
    _, over = stall(output)
    assert capsys.readouterr().out == ""
    output.show()
    properties, message = parsed(capsys.readouterr().out.strip())
    assert over.place is not None
    assert properties["file"] == "tests/watch/outputs/stalling.py"
    assert properties["line"] == str(over.place.line)
    line = Path(over.place.file).read_text().splitlines()[over.place.line - 1]
    start, end = int(properties["col"]), int(properties["endColumn"])
    assert line[start - 1 : end - 1] == "time.sleep(BLOCKED)"
    assert re.fullmatch(r"Event loop blocked for [\d.]+ m?s", properties["title"])
    assert message == (
        "time.sleep(BLOCKED): sleeping in clock_nanosleep, GIL released\n"
        "hint: await asyncio.sleep(BLOCKED)"
    )


def over(line: int, total: float, cause: Cause = Cause.SLEEPING) -> Stall:
    return Stall(0.1, cause, Place("app.py", line, "f"), over=True, total=total)


def test_a_line_is_told_once_the_worst_first_and_ten_at_most(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = Annotations()
    for line in range(1, MOST + 3):
        output.tell(over(line, total=line))
    output.tell(over(1, total=100.0))
    output.show()
    told = [parsed(line)[0]["line"] for line in capsys.readouterr().out.strip().splitlines()]
    assert told == ["1", *map(str, range(MOST + 2, 3, -1))]
    output.tell(over(1, total=200.0))
    output.tell(over(2, total=300.0))
    output.show()
    assert capsys.readouterr().out == ""


def test_what_is_not_the_lines_fault_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    output = Annotations()
    output.tell(over(1, 1.0, Cause.NOT_SCHEDULED))
    output.tell(Stall(0.1, Cause.SLEEPING, None, over=True))
    output.show()
    assert capsys.readouterr().out == ""


def test_a_file_that_is_not_of_the_repository_is_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "repository"))
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    for file, named in [
        (tmp_path / "repository" / "a,b.py", "a,b.py"),
        (tmp_path / "elsewhere.py", None),
        (tmp_path / "repository-2.py", None),
        ("<string>", None),
    ]:
        place = Place(str(file), 7, "f")
        properties, _ = parsed(annotation(Stall(1.0, Cause.IO, place, over=True, total=1.0)))
        assert properties.get("file") == named


def test_columns_are_characters_as_far_as_they_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    Path("app.py").write_text("f('äöü€𝄞', g())\n", encoding="utf-8")
    before = len("f('äöü€𝄞', ".encode())
    for place, expected in [
        (Place(str(tmp_path / "app.py"), 1, "f", before, before + 3), ("12", "15")),
        (Place(str(tmp_path / "app.py"), 1, "f", before, None), ("12", None)),
        (Place(str(tmp_path / "app.py"), 1, "f"), (None, None)),
        (Place(str(tmp_path / "app.py"), 1, "f", before, before + 30), (None, None)),
        (Place(str(tmp_path / "app.py"), 2, "f", before, before + 3), (None, None)),
    ]:
        properties, _ = parsed(annotation(Stall(1.0, Cause.IO, place, over=True, total=1.0)))
        assert (properties.get("col"), properties.get("endColumn")) == expected


def test_the_message_has_the_await_chain_and_who_is_waited_for() -> None:
    chain = Place("app.py", 9, "main", coroutine=True), Place("app.py", 3, "f", coroutine=True)
    holder = Place("app.py", 20, "hold")
    stall = Stall(1.0, Cause.LOCK, chain[-1], True, source="lock.acquire()", chain=chain)
    stall = replace(stall, culprit=holder, culprit_thread="worker", hint="asyncio.Lock")
    _, message = parsed(annotation(stall))
    assert message.splitlines() == [
        "lock.acquire(): waiting for a lock",
        "await chain: main (app.py:9) → f (app.py:3)",
        "another thread is at app.py:20 in hold (thread worker)",
        "hint: asyncio.Lock",
    ]


def test_the_command_prints_them_on_lines_of_their_own(tmp_path: Path) -> None:
    done = program(
        tmp_path,
        """\
        import asyncio, time
        async def main():
            for _ in range(2):
                time.sleep(0.3)
                await asyncio.sleep(0)
            print("no end of a line", end="")
        asyncio.run(main())
        """,
        *("--stall-threshold", "0.05", "--stall-annotations"),
    )
    assert done.returncode == 0, done.stderr
    [first, second] = done.stdout.splitlines()
    assert first == "no end of a line"
    properties, _ = parsed(second)
    assert (properties["file"], properties["line"]) == ("app.py", "4")
    assert properties["title"].endswith(", 2 times")


def test_what_tests_block_is_printed_after_them_the_worst_first(tmp_path: Path) -> None:
    """pytest keeps for itself what is printed while a test runs, as when its loop is closed."""
    (tmp_path / "test_blocked.py").write_text(
        "import asyncio, time\n"
        "def test_short():\n"
        "    async def main():\n"
        "        time.sleep(0.2)\n"
        "    asyncio.run(main())\n"
        "def test_long():\n"
        "    async def main():\n"
        "        time.sleep(0.8)\n"
        "    asyncio.run(main())\n"
    )
    options = ("--stall-threshold", "0.05", "--stall-annotations", "-m", "pytest")
    done = watch(*options, tmp_path / "test_blocked.py", GITHUB_WORKSPACE=str(tmp_path))
    told = [parsed(line)[0] for line in done.stdout.splitlines() if line.startswith("::")]
    assert [(each["file"], each["line"]) for each in told] == [
        ("test_blocked.py", "8"),
        ("test_blocked.py", "4"),
    ]
