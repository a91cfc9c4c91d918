"""Loops that stall for real, for tests of what is told of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import neverblock
from neverblock.watch import Output, Stall, Watch

THRESHOLD = 0.05
#: Long enough to be found on a busy machine.
BLOCKED = 0.3


class Told(Output):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stalls: list[Stall] = []
        self.calls: list[str] = []

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self.calls.append("begin")

    def tell(self, stall: Stall) -> None:
        self.calls.append("over" if stall.over else "began")
        self.stalls.append(stall)

    def flush(self) -> None:
        self.calls.append("flush")


def outer(times: int) -> None:
    for _ in range(times):
        time.sleep(BLOCKED)


def stall(*outputs: Output, times: int = 1) -> list[Stall]:
    """Run a loop that one callback blocks; what there is to tell of it."""
    told = Told()

    async def main() -> None:
        for _ in range(times):
            outer(1)
            await asyncio.sleep(0)

    neverblock.run(main(), watch=Watch(threshold=THRESHOLD, outputs=[*outputs, told]))
    return told.stalls


def program(
    directory: Path, text: str, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run app.py with that text by ``neverblock run``."""
    (directory / "app.py").write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, "-m", "neverblock", "run", *options, "app.py"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )
