"""Servers of the lab end, whatever they do."""

from __future__ import annotations

import signal
import subprocess
import sys

from neverblock.lab.server import stop

DEAF = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
signal.pause()
"""


def test_one_that_does_not_end_in_time_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DEAF], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"deaf\n"
        stop(process, 0.1)
    assert process.returncode == -signal.SIGKILL
