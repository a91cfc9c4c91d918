"""Clients that hold a connection: a process of its own (lab/crowd.py), on its own cores."""

import json
import os
import resource
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from neverblock.errors import LabError
from neverblock.lab.server import clean, pinned
from neverblock.load.connecting import Place, sources

#: Descriptors of a client that are no connections.
SPARE: Final = 64
#: Seconds that clients may take beyond their own time: to start, to connect everybody.
GRACE: Final = 60.0
PATIENCE: Final = 5.0


def room(connections: int) -> str | None:
    """Why one process cannot have so many connections; None: it can."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or connections + SPARE <= hard:
        return None
    return (
        f"{connections:,} connections need {connections + SPARE:,} descriptors, and the hard limit "
        f"is {hard:,}; raise it: ulimit -Hn {connections + SPARE}"
    )


@dataclass(frozen=True, slots=True)
class Crowd:
    """Connections that are held."""

    connected: int
    answered: int
    failure: str
    """What went wrong first; "" where everybody was answered."""
    seconds: float
    """From the first connect to the last answer."""
    _process: "subprocess.Popen[str]"
    _patience: float

    def probe(self) -> float:
        """Let one client more come, be answered, and leave: in how many seconds. Raises LabError
        where it is not answered."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seconds: float | None = answer(self._process, 2 * self._patience)["seconds"]
        if seconds is None:
            raise LabError(f"one client more is not answered within {self._patience:g} s")
        return seconds


@contextmanager
def crowd(
    port: int,
    count: int,
    *,
    cores: frozenset[int],
    message: bytes = b"x",
    answer_size: int | None = None,
    patience: float = PATIENCE,
) -> Iterator[Crowd]:
    """Hold so many connections; who was not answered within ``patience`` seconds is told.

    An answer has ``answer_size`` bytes at least; None: as many as the message.
    """
    place = Place(socket.AF_INET, ("127.0.0.1", port))
    found = sources(place, count)
    request = {
        "port": port,
        "sources": found,
        "elsewhere": sources(place, 1, len(found))[0],
        "count": count,
        "message": message.hex(),
        "answer": len(message) if answer_size is None else answer_size,
        "patience": patience,
    }
    with (
        pinned(cores),
        subprocess.Popen(
            [sys.executable, "-m", "neverblock.lab.crowd"],
            env=clean(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdin is not None
        try:
            # A message may be longer than an argument can be (execve(2)).
            with suppress(BrokenPipeError):  # Its last words are read below.
                print(json.dumps(request), file=process.stdin, flush=True)
            # Each client may keep the others waiting; the last word comes when none is left.
            told = answer(process, GRACE + patience * 4)
            yield Crowd(**told, _process=process, _patience=patience)
        finally:
            process.kill()
            with suppress(BrokenPipeError):
                process.stdin.close()


def answer(process: "subprocess.Popen[str]", timeout: float) -> Mapping[str, Any]:
    assert process.stdout is not None
    assert process.stderr is not None
    if not select.select([process.stdout], [], [], timeout)[0]:
        raise LabError(f"the clients did not come to an end within {timeout:g} s")
    line = process.stdout.readline()
    if not line:
        lines = process.stderr.read().strip().splitlines()
        raise LabError(f"the clients ended: {lines[-1] if lines else 'they said nothing'}")
    found: Mapping[str, Any] = json.loads(line)
    return found
