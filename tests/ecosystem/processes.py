"""Servers in processes of their own, for tests."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
PATIENCE = 30.0  # seconds


@contextlib.contextmanager
def started(
    *command: str, until: str, **environment: str
) -> Iterator[tuple[subprocess.Popen, str]]:
    """A process whose output (standard error is part of it) has a line that matches `until`.

    Gives the process and the first group of the match. It is killed at the end if it still runs.
    """
    with subprocess.Popen(
        command,
        cwd=HERE,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if found := re.search(until, line):
                    yield process, found.expand(r"\g<1>") if found.groups() else found[0]
                    break
            else:
                raise AssertionError(f"{command[0]} ended before it was ready:\n{''.join(lines)}")
        finally:
            process.kill()


def python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)
