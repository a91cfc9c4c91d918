"""Clients of a server that serves one at a time: ``python -m neverblock.lab.queueing REQUEST``.

The first client stays for a while after its answer; the second has connected and sent by then. Then
clients come until the kernel's listen queue takes no more.
"""

import json
import select
import socket
import sys
import time
from typing import Any, Final

#: Seconds in which a connect counts as not taken: far more than it takes, and less than the first
#: second after which the kernel tries again (tcp(7): tcp_syn_retries).
REFUSED: Final = 0.5


def main() -> None:
    request: dict[str, Any] = json.loads(sys.argv[1])
    address = ("127.0.0.1", int(request["port"]))
    first, second = (socket.create_connection(address, 10.0) for _ in range(2))
    begun = time.monotonic()
    for sock in (first, second):
        sock.sendall(b"x")
    first.recv(1)
    served = time.monotonic() - begun
    queued = fill(address, int(request["most"]))
    left = max(0.001, float(request["stay"]) - (time.monotonic() - begun))
    if not select.select([second], [], [], left)[0]:
        first.close()
    second.recv(1)
    waited = time.monotonic() - begun
    print(json.dumps({"first": served, "second": waited, "queued": len(queued) + 1}))


def fill(address: tuple[str, int], most: int) -> list[socket.socket]:
    """Connections that the kernel takes while nobody accepts them."""
    taken: list[socket.socket] = []
    while len(taken) < most:
        try:
            taken.append(socket.create_connection(address, REFUSED))
        except TimeoutError:
            break
    return taken


if __name__ == "__main__":
    main()
