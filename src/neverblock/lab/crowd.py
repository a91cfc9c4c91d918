"""Clients that connect, get one answer each, and stay: ``python -m neverblock.lab.crowd REQUEST``.

It prints a JSON object when they all have their answer, or no more answers came for ``patience``
seconds; then it holds the connections until its standard input is closed. For each line there, one
client more connects, is answered and leaves, and how long that took is printed. It comes from an
address of its own: the kernel takes long to find a port where half of them are taken, and that is
not what is asked.
"""

import json
import resource
import select
import socket
import sys
import time
from typing import Any, Final

#: Clients that wait for their answer at one time.
AT_ONCE: Final = 200
#: Where one client more comes from: all of 127.0.0.0/8 is this machine (RFC 6890).
ELSEWHERE: Final = "127.0.0.2"
IP_BIND_ADDRESS_NO_PORT: Final = 24
"""ip(7): the port is chosen when it connects; Python has no name for it before 3.12."""


def main() -> None:
    request: dict[str, Any] = json.loads(sys.argv[1])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    address = ("127.0.0.1", int(request["port"]))
    message = bytes.fromhex(request["message"])
    begun = time.monotonic()
    held, answered, failure = gather(
        address, message, int(request["count"]), float(request["patience"])
    )
    tell(
        connected=len(held),
        answered=answered,
        failure=failure,
        seconds=time.monotonic() - begun,
    )
    for _ in sys.stdin:
        tell(seconds=probe(address, message, float(request["patience"])))


def gather(
    address: tuple[str, int], message: bytes, count: int, patience: float
) -> tuple[list[socket.socket], int, str]:
    """The connections, how many were answered, and what went wrong first."""
    held: list[socket.socket] = []
    waiting: dict[int, socket.socket] = {}
    poller = select.poll()
    answered = 0
    last = time.monotonic()
    failure = ""
    while (len(held) < count and not failure) or waiting:
        while len(held) < count and len(waiting) < AT_ONCE and not failure:
            try:
                sock = socket.create_connection(address, patience)
                sock.sendall(message)
            except OSError as error:
                failure = str(error)
                break
            held.append(sock)
            waiting[sock.fileno()] = sock
            poller.register(sock, select.POLLIN)
        for descriptor, _ in poller.poll(100):
            sock = waiting.pop(descriptor)
            poller.unregister(descriptor)
            try:
                ended = not sock.recv(len(message))
            except OSError as error:
                ended, failure = True, failure or str(error)
            if ended:
                failure = failure or "the server ended a connection"
            else:
                answered += 1
            last = time.monotonic()
        if time.monotonic() - last > patience:
            failure = failure or f"no answer within {patience:g} s"
            break
    return held, answered, failure


def probe(address: tuple[str, int], message: bytes, patience: float) -> float | None:
    """Seconds from when a client more begins to connect until it is answered; None: it is not."""
    with socket.socket() as sock:
        sock.settimeout(patience)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((ELSEWHERE, 0))
        begun = time.monotonic()
        try:
            sock.connect(address)
            sock.sendall(message)
            answered = bool(sock.recv(len(message)))
        except OSError:
            answered = False
        return time.monotonic() - begun if answered else None


def tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
