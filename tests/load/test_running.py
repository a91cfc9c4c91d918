"""`run`, as a program calls it: its hooks, how it ends early, what it says of itself."""

from __future__ import annotations

import pickle
import threading

import pytest
from rich.console import Console

from neverblock.cli.figures import summary
from neverblock.load import Plan, Progress, Result, Use, run
from tests.load import stubs
from tests.load.stubs import stub


def test_the_gate_is_passed_when_connections_are_open_and_nothing_was_asked() -> None:
    stubs.asked.clear()
    asked_before: list[bool] = []
    with stub(stubs.echo) as address:
        plan = Plan(target=f"tcp://{address}", connections=3, duration=0.2)
        result = run(plan, gate=lambda: asked_before.append(stubs.asked.is_set()))
    assert asked_before == [False]
    assert result.requests > 0


def test_what_a_hook_raises_ends_the_run_and_comes_out() -> None:
    def refuse(progress: Progress) -> None:
        raise ValueError("enough")

    with stub(stubs.echo) as address:
        plan = Plan(target=f"tcp://{address}", duration=600, processes=2)
        with pytest.raises(ValueError, match="enough"):
            run(plan, on_progress=refuse)


def test_an_interrupt_gives_the_result_so_far() -> None:
    def interrupt(progress: Progress) -> None:
        if progress.phase == "measuring" and progress.requests:
            raise KeyboardInterrupt

    with stub(stubs.echo) as address:
        result = run(Plan(target=f"tcp://{address}", duration=600), on_progress=interrupt)
    assert result.interrupted
    assert result.requests > 0
    assert result.errors == {}
    assert 0 < result.seconds < 600


def test_it_runs_in_a_thread_too() -> None:
    found: list[Result] = []
    with stub(stubs.echo) as address:
        plan = pickle.loads(pickle.dumps(Plan(target=f"tcp://{address}", duration=0.2)))
        thread = threading.Thread(target=lambda: found.append(run(plan)))
        thread.start()
        thread.join()
    assert found[0].errors == {}


@pytest.mark.parametrize(
    ("uses", "bottleneck"),
    [
        ([Use(cpu_seconds=1.8, seconds=2.0)], False),
        ([Use(cpu_seconds=0.2, seconds=2.0), Use(cpu_seconds=1.95, seconds=2.0)], True),
        # It had work all the time, and other programs had its core.
        ([Use(cpu_seconds=1.0, seconds=2.0, waited=0.95)], True),
        ([], False),
    ],
)
def test_it_is_told_when_the_client_was_the_bottleneck(uses: list[Use], bottleneck: bool) -> None:
    result = Result.empty("tcp://[::1]:7000")
    result.clients += uses
    console = Console(width=100)
    with console.capture() as captured:
        console.print(summary(Plan(target=result.target), result))
    assert ("the client was the bottleneck" in captured.get()) == bottleneck
    assert "tcp://[::1]:7000" in captured.get()
    assert result.to_json()["client"]["bottleneck"] == bottleneck
