"""Fixtures of the tests of faults: those of the engine's, and an echo server apart."""

import contextlib
from pathlib import Path

import pytest

from tests.engine.fixtures import *  # noqa: F403

PROGRAMS = Path(__file__).with_name("programs")


class Server:
    """The program echo.py, which runs on its own and answers commands."""

    def __init__(self, process):
        self.process = process
        line = process.stdout.readline()
        assert line, process.stderr.read()
        self.address = ("127.0.0.1", int(line))

    def ask(self, command: str) -> int:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the server died: {self.process.stderr.read()}"
        return int(line)

    def stop(self) -> str:
        """End it; what it logged."""
        _, log = self.process.communicate("stop\n", timeout=30)
        assert self.process.returncode == 0, log
        return log


@pytest.fixture
def echo_server(program):
    @contextlib.contextmanager
    def echo_server(*options):
        with program.started(PROGRAMS / "echo.py", *options) as process:
            yield Server(process)

    return echo_server
