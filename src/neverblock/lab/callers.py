"""Clients that say what is to be done for them: ``python -m neverblock.lab.callers REQUEST``.

- A question is one line, and so is its answer. Each caller has its answer before it asks again.
- With an ``interval`` they ask by the clock, and an answer counts from when the question was due
  (else a server that keeps everybody waiting would be asked less, and look better). Without one
  they ask at once.
- Every ``every``-th question of all is ``marked`` instead of ``plain``. The two are told apart.
- It prints a JSON object: ``plain`` and ``marked``, the seconds of each answer that was due in the
  time measured (without an interval: that came in it), and ``seconds``, how long that was.
"""

import json
import select
import socket
import sys
import time
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any


@dataclass(slots=True)
class Caller:
    sock: socket.socket
    due: float
    marked: bool = False
    got: bytes = b""


def main() -> None:
    request: dict[str, Any] = json.loads(sys.argv[1])
    address = ("127.0.0.1", int(request["port"]))
    interval, patience = float(request["interval"]), float(request["patience"])
    lines = (request["plain"].encode() + b"\n", request["marked"].encode() + b"\n")
    every, count = int(request["every"]), int(request["count"])
    poller = select.poll()
    callers: dict[int, Caller] = {}
    for _ in range(count):
        sock = socket.create_connection(address, patience)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        callers[sock.fileno()] = Caller(sock, 0.0)
        poller.register(sock, select.POLLIN)
    start = time.monotonic()
    begin = start + float(request["warmup"])
    end = begin + float(request["seconds"])
    # They are spread evenly over the first interval.
    waiting = [(start + n / count * interval, sock) for n, sock in enumerate(callers)]
    found: tuple[list[float], list[float]] = ([], [])
    asked = outstanding = 0
    last = start
    while waiting or outstanding:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            due, descriptor = heappop(waiting)
            caller = callers[descriptor]
            asked += 1
            caller.due, caller.marked = due, every > 0 and asked % every == 0
            caller.sock.sendall(lines[caller.marked])
            outstanding += 1
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else patience
        for descriptor, _ in poller.poll(min(pause, patience) * 1000):
            caller = callers[descriptor]
            chunk = caller.sock.recv(4096)
            if not chunk:
                sys.exit("the server ended a connection")
            caller.got += chunk
            if not caller.got.endswith(b"\n"):
                continue
            now = last = time.monotonic()
            caller.got = b""
            outstanding -= 1
            if caller.due >= begin if interval else begin <= now < end:
                found[caller.marked].append(now - caller.due)
            due = caller.due + interval if interval else now
            if due < end:
                heappush(waiting, (due, descriptor))
        if outstanding and time.monotonic() - last > patience:
            sys.exit(f"no answer within {patience:g} s")
    print(json.dumps({"plain": found[0], "marked": found[1], "seconds": end - begin}))


if __name__ == "__main__":
    main()
