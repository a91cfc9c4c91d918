"""Load on raw servers: what is asked is answered, counted and told."""

from __future__ import annotations

import json
import pickle

import pytest

from neverblock.load import Plan, Progress, Result, run
from tests.servers.serving import served

HANDLER = "examples/echo.py:handle"


def test_a_closed_loop_counts_every_answer() -> None:
    seen: list[Progress] = []
    with served(HANDLER) as server:
        plan = Plan(target=server.url, connections=5, size=2000, duration=0.5)
        result = run(plan, on_progress=seen.append)
    assert result.errors == {}
    assert result.requests > 0
    assert result.connect.count == 5
    # What was measured went to and fro whole, but for what was under way at the ends.
    assert abs(result.bytes_received - 2000 * result.requests) <= 2000 * 5 * 2
    assert not result.corrected
    assert {progress.phase for progress in seen} <= {"opening", "measuring", "finishing"}
    assert seen


def test_an_open_loop_asks_by_the_clock() -> None:
    with served(HANDLER) as server:
        result = run(Plan(target=server.url, connections=20, rate=400, duration=0.5, ramp=0.2))
    assert result.errors == {}
    assert result.corrected
    assert result.requests == pytest.approx(200, abs=1)


@pytest.mark.parametrize("options", [{"pipeline": 7}, {"processes": 2}, {"rate": 1000.0}])
def test_every_way_of_asking_ends_without_errors(options: dict[str, float]) -> None:
    with served(HANDLER) as server:
        plan = Plan(target=server.url, connections=6, duration=0.3, warmup=0.1, **options)  # type: ignore[arg-type]
        result = run(plan)
    assert result.errors == {}
    assert result.requests > 0
    assert len(result.clients) == plan.processes


def test_a_result_survives_json_and_pickle() -> None:
    with served(HANDLER) as server:
        result = run(Plan(target=server.url, connections=2, duration=0.2, idle=3))
    data = json.loads(json.dumps(result.to_json()))
    assert Result.from_json(data) == result
    assert pickle.loads(pickle.dumps(result)) == result
    assert data["idle"] == {"asked": 3, "opened": 3, "closed": 0}
