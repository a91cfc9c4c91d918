"""What it costs to be told who has spoken: ``python -m neverblock.lab.wakeups REQUEST``.

A process that connects, and this one, which waits for it with one of ``neverblock.multiplexers``.
Again and again the other speaks on the active connections, and this one waits until it has read
that. Only the processor time within the wait is counted, portion by portion: the median of many
short ones leaves out those in which the machine was busy with something else.
"""

import json
import os
import resource
import socket
import sys
import time
from selectors import EVENT_READ
from statistics import median
from typing import Any, Final

from neverblock import multiplexers

#: Seconds of a portion, at least.
PORTION: Final = 0.02


def main() -> None:
    request: dict[str, Any] = json.loads(sys.argv[1])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    active, idle = int(request["active"]), int(request["idle"])
    ours, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        if os.fork() == 0:
            ours.close()
            speak(theirs, listener.getsockname(), active, idle, set(request["client_cores"]))
        theirs.close()
        accepted = [listener.accept()[0] for _ in range(active + idle)]
    with multiplexers.create(request["backend"]) as selector:
        # Those who speak were last to come: a scan has to pass by all the others.
        for sock in accepted:
            selector.register(sock, EVENT_READ)
        wait(selector, ours, active, 0.05)
        before = selector.statistics()
        costs = portions(selector, ours, active, float(request["seconds"]))
        after = selector.statistics()
    grown = {name: after[name] - before[name] for name in after}
    print(json.dumps({"cost": median(costs), **grown}))


def portions(
    selector: multiplexers.Selector, speaker: socket.socket, active: int, seconds: float
) -> list[float]:
    """Processor time of one wait, in each portion of so many seconds."""
    found = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        waits = selector.statistics()["waits"]
        spent = wait(selector, speaker, active, PORTION)
        found.append(spent / (selector.statistics()["waits"] - waits))
    return found


def wait(
    selector: multiplexers.Selector, speaker: socket.socket, active: int, seconds: float
) -> float:
    """Processor time within the waits of so many seconds."""
    spent = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        left = active
        speaker.send(b"!")
        while left:
            begun = time.thread_time_ns()
            ready = selector.select()
            spent += time.thread_time_ns() - begun
            for key, _ in ready:
                left -= len(key.fileobj.recv(1))  # type: ignore[union-attr]
    return spent / 1e9


def speak(
    told: socket.socket, address: tuple[str, int], active: int, idle: int, cores: set[int]
) -> None:
    """The other process: connects, and says a byte on each active connection when it is told to."""
    try:
        os.sched_setaffinity(0, cores)
        connections = [socket.create_connection(address) for _ in range(active + idle)]
        while told.recv(1):
            for sock in connections[idle:]:
                sock.send(b"x")
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
