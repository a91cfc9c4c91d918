"""Fixtures of the server tests."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from neverblock.cli.loops import factory
from tests.servers.serving import PATIENCE

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["ours", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine to its end: on our loop, and on asyncio's own, as the handler API allows."""
    new_event_loop = factory(None) if request.param == "ours" else asyncio.SelectorEventLoop

    async def bounded(main: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(PATIENCE):
            await main

    def to_the_end(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(bounded(main))

    return to_the_end
