"""Flame graphs: what speedscope and flamegraph.pl make of the file."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import neverblock
from neverblock.errors import OutputError
from neverblock.watch import Cause, Folded, Place, Sample, Stall, Watch
from neverblock.watch.outputs.folded import folded, frames
from tests.watch.outputs.stalling import Told, program, stall

Stacks = dict[tuple[str, ...], int]


def speedscope(text: str) -> Stacks:
    """As its importer of Brendan Gregg's format reads it."""
    found: Stacks = {}
    for line in text.split("\n"):
        if match := re.match(r"^(.*) (\d+)$", line):
            found[tuple(match[1].split(";"))] = int(match[2])
        else:
            assert line == ""
    return found


def flamegraph(text: str) -> Stacks:
    """As flamegraph.pl does, for which two numbers at the end are a difference."""
    found: Stacks = {}
    for line in text.splitlines():
        match = re.match(r"^(.*)\s+?(\d+(?:\.\d*)?)$", line)
        assert match
        assert not re.match(r"^(.*)\s+?(\d+(?:\.\d*)?)$", match[1])
        found[tuple(match[1].split(";"))] = int(match[2])
    return found


PLACES = st.builds(Place, st.text(), st.integers(1, 10**6), st.text())


@given(st.lists(st.tuples(st.lists(PLACES, min_size=1), st.floats(0.001, 1e6)), max_size=5))
def test_any_stack_is_read_back(stalls: list[tuple[list[Place], float]]) -> None:
    stacks = {frames(stack): seconds for stack, seconds in stalls}
    text = folded(stacks)
    expected = {stack: max(round(seconds * 1e3), 1) for stack, seconds in stacks.items()}
    assert speedscope(text) == flamegraph(text) == expected
    for stack, _ in stalls:
        assert len(frames(stack)) == len(stack)


def test_a_stall_is_a_stack_from_the_root(tmp_path: Path) -> None:
    path = tmp_path / "stalls.folded"
    _, over = stall(Folded(path))
    stacks = speedscope(path.read_text())
    stack = max(stacks, key=lambda stack: stacks[stack])  # it may be met on its way there, as well
    assert stack[-1].startswith("outer (")
    assert re.match(r"stall\.<locals>\.main \(\S+stalling\.py:\d+\)$", stack[-2])
    assert stacks[stack] > 0.8 * over.duration * 1e3
    assert abs(sum(stacks.values()) - over.duration * 1e3) <= len(stacks)


def test_a_callback_that_stalls_in_a_long_turn_is_drawn_once(tmp_path: Path) -> None:
    path = tmp_path / "stalls.folded"
    both = False
    while not both:  # again where the watch had no CPU meanwhile
        told = Told()
        watch = Watch(threshold=0.1, turn_threshold=0.02, outputs=(Folded(path), told))
        loop = neverblock.Loop(watch=watch)
        for callback in (*[tiny] * 10_000, slow, *[tiny] * 10_000, loop.stop):
            loop.call_soon(callback)
        loop.run_forever()
        loop.close()
        both = {stall.is_turn for stall in told.stalls if stall.over} == {True, False}
    [turn] = [stall for stall in told.stalls if stall.over and stall.is_turn]
    assert turn.apart > 0.1
    drawn = sum(speedscope(path.read_text()).values()) / 1e3
    counted = sum(stall.counted for stall in told.stalls if stall.over)
    assert drawn < counted + turn.apart / 2  # when a callback ends is known a little late


def tiny() -> None:
    spin(1e-5)


def slow() -> None:
    spin(0.3)


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_the_file_is_written_whole_at_each_close(tmp_path: Path) -> None:
    path = tmp_path / "stalls.folded"
    output = Folded(path)
    durations = []
    for _ in range(2):
        durations.append(stall(output)[1].duration)
        [milliseconds] = speedscope(path.read_text()).values()
        assert milliseconds == round(sum(durations) * 1e3)
    assert list(tmp_path.iterdir()) == [path]


def test_each_sample_of_a_stall_is_a_stack_of_its_own(tmp_path: Path) -> None:
    inner, other, root = Place("a", 1, "f"), Place("a", 2, "g"), Place("a", 3, "h")
    samples = (Sample((inner, root), 3, 0.3), Sample((other, root), 1, 0.1))
    output = Folded(tmp_path / "stalls.folded")
    for _ in range(2):
        output.tell(Stall(0.4, Cause.COMPUTING, inner, over=True, samples=samples))
    output.flush()
    assert speedscope((tmp_path / "stalls.folded").read_text()) == {
        ("h (a:3)", "f (a:1)"): 600,
        ("h (a:3)", "g (a:2)"): 200,
    }


def test_the_await_chain_is_in_the_stack(tmp_path: Path) -> None:
    path = tmp_path / "stalls.folded"
    done = program(
        tmp_path,
        """\
        import asyncio, time
        async def inner():
            time.sleep(0.3)
        async def outer():
            await inner()
        async def main():
            await asyncio.create_task(outer())
        asyncio.run(main())
        """,
        *("--stall-threshold", "0.05", "--stall-profile", str(path)),
    )
    assert done.returncode == 0, done.stderr
    # main() waits for another task: it does not run.
    assert list(speedscope(path.read_text())) == [("outer (app.py:5)", "inner (app.py:3)")]


def test_a_stall_without_a_stack_is_its_cause(tmp_path: Path) -> None:
    output = Folded(tmp_path / "stalls.folded")
    output.tell(Stall(0.25, Cause.UNKNOWN, None, over=True))
    output.flush()
    assert (tmp_path / "stalls.folded").read_text() == "not known 250\n"


def test_what_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    output = Folded(tmp_path / "stalls.folded")
    output.tell(Stall(1, Cause.IO, None, over=True, stack=(Place("/\udcff", 1, "f"),)))
    output.flush()
    assert (tmp_path / "stalls.folded").read_text() == "f (/\\udcff:1) 1000\n"


def test_each_process_may_have_a_file_of_its_own(tmp_path: Path) -> None:
    stall(Folded(tmp_path / "stalls.folded", per_process=True))
    assert [each.name for each in tmp_path.iterdir()] == [f"stalls.{os.getpid()}.folded"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # threads, from 3.12 on
def test_a_forked_child_leaves_its_parents_file_alone(tmp_path: Path) -> None:
    output = Folded(tmp_path / "stalls.folded")
    stall(output)
    before = (tmp_path / "stalls.folded").read_text()
    child = os.fork()
    if child == 0:
        output.tell(Stall(0.25, Cause.UNKNOWN, None, over=True))
        output.flush()
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "stalls.folded").read_text() == before
    assert (tmp_path / f"stalls.{child}.folded").read_text() == "not known 250\n"


def test_a_path_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    for path, reason in [
        (tmp_path / "nothing" / "stalls.folded", "No such file"),
        (tmp_path, "Is a directory"),
        ("/proc/version/stalls.folded", "Not a directory"),
    ]:
        with pytest.raises(OutputError, match=reason):
            Folded(path)


def test_the_command_writes_one_also_when_the_program_fails(tmp_path: Path) -> None:
    done = program(
        tmp_path,
        """\
        import asyncio, time
        async def main():
            time.sleep(0.3)
            raise SystemExit("enough")
        asyncio.run(main())
        """,
        *("--stall-threshold", "0.05", "--stall-profile", "stalls.folded"),
    )
    assert done.returncode == 1
    assert re.match(r"main \(app.py:3\) \d+\n$", (tmp_path / "stalls.folded").read_text())
