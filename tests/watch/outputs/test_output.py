"""What an output is called for, and that none of them can harm the watch."""

from __future__ import annotations

import asyncio
import logging
import os
import time

import pytest

import neverblock
from neverblock.watch import Output, Stall, Watch
from tests.watch.outputs.stalling import THRESHOLD, Told, stall


def test_an_output_is_told_of_each_stall_between_begin_and_flush() -> None:
    told = Told()
    stall(told)
    assert told.calls == ["begin", "began", "over", "flush"]
    stall(told)
    assert told.calls == ["begin", "began", "over", "flush"] * 2


def test_a_loop_that_never_ran_has_nothing_to_flush() -> None:
    told = Told()
    neverblock.Loop(watch=Watch(outputs=[told])).close()
    assert told.calls == []


def test_what_an_output_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Output):
        def begin(self, loop: asyncio.AbstractEventLoop) -> None:
            raise ZeroDivisionError("at begin")

        def tell(self, stall: Stall) -> None:
            raise ZeroDivisionError("at a stall")

        def flush(self) -> None:
            raise ZeroDivisionError("at the end")

    broken, told = Broken(), Told()
    assert len(stall(broken, told)) == 2
    assert told.calls == ["begin", "began", "over", "flush"]
    [said] = [record for record in caplog.records if "an output" in record.getMessage()]
    assert said.levelno == logging.WARNING
    assert said.getMessage().endswith("Broken: ZeroDivisionError: at begin")


def test_what_is_no_output_is_refused() -> None:
    with pytest.raises(ValueError, match=r'such as JsonLines\("stalls.jsonl"\), not <built-in'):
        Watch(outputs=[print])  # type: ignore[list-item]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # threads, from 3.12 on
def test_a_forked_child_forgets_what_its_parent_was_told() -> None:
    class Forgetful(Told):
        def forget(self) -> None:
            self.calls.append("forget")

    told = Forgetful()

    async def main() -> None:
        time.sleep(2 * THRESHOLD)
        child = os.fork()
        if child == 0:
            os._exit(0 if told.calls[-1] == "forget" else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0

    neverblock.run(main(), watch=Watch(threshold=THRESHOLD, outputs=[told]))
    assert "forget" not in told.calls
