"""The tools that `load` is held against: what they say is understood. Figures: bench."""

from __future__ import annotations

import os

import pytest

from bench import load_references
from bench.load_references import COMPARISONS, Comparison
from tests.servers.tools import tool

#: One for each tool and server.
SOME = [COMPARISONS[0], COMPARISONS[1], COMPARISONS[-1]]


@pytest.mark.parametrize("each", SOME, ids=lambda each: each.name)
def test_a_comparison_can_be_made(each: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    tool("taskset")
    tool(each.program)
    if each.serve is load_references.redis_server:
        tool("redis-server")
    if not {load_references.SERVER_CORE, load_references.CLIENT_CORE} <= os.sched_getaffinity(0):
        pytest.skip("needs two cores: one for the server, one for its client")
    load_references.compare(each, connections=5, rounds=1, seconds=1.0)
    shown = capsys.readouterr().out
    assert shown.startswith(f"{each.name}, 5 connections: neverblock load / {each.program}\n")
    assert len(shown.splitlines()) == 5
