"""Starting and ending the server that is measured, and what it tells of itself.

- It runs as a process of its own, on the cores that it is given, which its children inherit, in a
  session of its own, so an interrupt at the terminal does not reach it.
- It has ended, with all its descendants, when ``serving`` is left.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any, Final, TypeAlias

from neverblock.errors import LabError
from neverblock.lab.tree import Tree

#: Seconds until a server listens, at most: its handler may import much.
START: Final = 60.0
STOP: Final = 20.0
ANSWER: Final = 30.0
DYING: Final = 1.0


#: When it was (seconds of the monotonic clock), and the multiplexer's statistics.
Told: TypeAlias = tuple[float, Mapping[str, float]]


@dataclass
class Server:
    """A server that accepts connections."""

    process: "subprocess.Popen[bytes]"
    tree: Tree
    url: str
    own: int
    """Processes that it has without a client."""
    started: float
    """Seconds from its start until it listened."""
    _channel: socket.socket
    _errors: IO[bytes]
    _unread: bytearray = field(default_factory=bytearray)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def log(self) -> str:
        """What it has logged so far."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def ask(self) -> None:
        """Let the loop tell what it has counted; ``told`` and ``last_told`` have the answers."""
        with suppress(ConnectionError, BlockingIOError):
            self._channel.send(b"?", socket.MSG_DONTWAIT)

    def told(self) -> list[Told]:
        """The answers that have come since the last time. Several questions may have one."""
        with suppress(BlockingIOError):
            while chunk := self._channel.recv(65536, socket.MSG_DONTWAIT):
                self._unread += chunk
        *lines, self._unread = self._unread.split(b"\n")
        return [(answer["at"], answer["statistics"]) for answer in map(json.loads, lines)]

    def last_told(self) -> list[Told]:
        """The same with what it has counted by now. Raises LabError where it does not answer."""
        answers = self.told()
        begun = time.monotonic()
        self.ask()
        while not answers or answers[-1][0] < begun:
            answer = self._line(ANSWER)
            answers.append((answer["at"], answer["statistics"]))
        return answers

    def check(self, patience: float = 0.0) -> None:
        """Raises LabError where it has ended, or does within so many seconds."""
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return
        raise LabError(self._end())

    def _end(self) -> str:
        """How it ended, in its own words where it had some."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP)
        code = self.process.returncode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else "ended"
        lines = self.log().strip().splitlines()
        return f"the server {how}: {lines[-1] if lines else 'it said nothing'}"

    def _line(self, timeout: float) -> dict[str, Any]:
        """What it says next. Raises LabError where it says nothing, or has ended."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._channel], [], [], left)[0]:
                raise LabError(f"the server does not answer within {timeout:g} s")
            try:
                chunk = self._channel.recv(65536)
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise LabError(self._end())
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def serving(
    handler: str,
    options: Mapping[str, Any],
    *,
    cores: frozenset[int],
    backend: str | None = None,
    peer: str | None = None,
    stall_threshold: float = 0.0,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A server on a free port of 127.0.0.1, once it listens. Raises LabError.

    ``options`` are those of ``neverblock.serve``; ``peer`` is another loop to serve on.
    """
    request = {
        "handler": handler,
        "bind": "tcp://127.0.0.1:0",
        "options": options,
        "backend": backend,
        "peer": peer,
        "stall_threshold": stall_threshold,
    }
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryFile() as errors, ours:
        begun = time.monotonic()
        with theirs, pinned(cores):
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "neverblock.lab.served",
                    str(theirs.fileno()),
                    json.dumps(request),
                ],
                env=clean(os.environ) | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        server = Server(process, Tree(process.pid), "", 1, 0.0, ours, errors)
        try:
            server.url = server._line(START)["url"]
            server.started = time.monotonic() - begun
            server.own = len(server.tree.pids())
            try:
                yield server
            except LabError:
                # Then that is the reason, and not what its clients noticed, maybe before its end.
                server.check(DYING)
                raise
            server.check()
        finally:
            stop(process)


def stop(process: "subprocess.Popen[bytes]", patience: float = STOP) -> None:
    """End it and what it started. One that does not end in time, as with ten thousand threads, is
    killed: what was measured stands."""
    process.terminate()  # It reaps its children; nobody else may do so in time.
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what changes how fast a loop is, or which it is."""
    changes = ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONMALLOC", "NEVERBLOCK_BACKEND")
    return {name: value for name, value in environment.items() if name not in changes}


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Processes that are started within run on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
