"""Clients that connect, get one answer each, and stay: ``python -m neverblock.lab.crowd``.

What is asked of it is the first line of its standard input, a JSON object. It prints one when they
all have their answer, or no more answers came for ``patience`` seconds; then it holds the
connections until its standard input is closed. For each line more there, one client more connects,
is answered and leaves, and how long that took is printed. It comes from an address of its own: the
kernel takes long to find a port where half of them are taken, and that is not what is asked. More
than an address has ports for come from several, in turn (load/connecting.py).
"""

import json
import resource
import select
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

#: Clients that wait for their answer at one time.
AT_ONCE: Final = 200
IP_BIND_ADDRESS_NO_PORT: Final = 24
"""ip(7): the port is chosen when it connects; Python has no name for it before 3.12."""
#: Bytes that are read at once.
CHUNK: Final = 65536


def main() -> None:
    request: dict[str, Any] = json.loads(sys.stdin.readline())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    address = ("127.0.0.1", int(request["port"]))
    message = bytes.fromhex(request["message"])
    patience = float(request["patience"])
    begun = time.monotonic()
    answer, count = int(request["answer"]), int(request["count"])
    held, answered, failure = gather(address, request["sources"], message, answer, count, patience)
    tell(
        connected=len(held),
        answered=answered,
        failure=failure,
        seconds=time.monotonic() - begun,
    )
    for _ in sys.stdin:
        tell(seconds=probe(address, request["elsewhere"], message, answer, patience))


@dataclass(slots=True)
class Client:
    """One that is connected, and has no answer yet. Its socket does not block."""

    sock: socket.socket
    left: memoryview
    """What it has not said yet."""
    awaited: int
    """Bytes of its answer that have not come."""

    @property
    def events(self) -> int:
        return select.POLLIN | (select.POLLOUT if self.left else 0)

    def say(self) -> None:
        """What can be said now. Raises OSError."""
        with suppress(BlockingIOError):
            while self.left:
                self.left = self.left[self.sock.send(self.left) :]

    def go_on(self) -> bool:
        """Say and hear what can be now; whether it has its answer. Raises OSError."""
        self.say()
        with suppress(BlockingIOError):
            while self.awaited > 0:
                chunk = self.sock.recv(CHUNK)
                if not chunk:
                    raise ConnectionError("the server ended a connection")
                self.awaited -= len(chunk)
        return not self.left and self.awaited <= 0


def gather(
    address: tuple[str, int],
    sources: list[str | None],
    message: bytes,
    answer: int,
    count: int,
    patience: float,
) -> tuple[list[socket.socket], int, str]:
    """The connections, how many were answered, and what went wrong first."""
    held: list[socket.socket] = []
    waiting: dict[int, Client] = {}
    poller = select.poll()
    answered = 0
    last = time.monotonic()
    failure = ""
    while (len(held) < count and not failure) or waiting:
        while len(held) < count and len(waiting) < AT_ONCE and not failure:
            try:
                sock = connected(address, sources[len(held) % len(sources)], patience)
                client = Client(sock, memoryview(message), answer)
                client.say()
            except OSError as error:
                failure = str(error)
                break
            held.append(sock)
            waiting[sock.fileno()] = client
            poller.register(sock, client.events)
        for descriptor, _ in poller.poll(100):
            client = waiting[descriptor]
            last = time.monotonic()
            try:
                done = client.go_on()
            except OSError as error:
                failure = failure or str(error)
            else:
                if not done:
                    poller.modify(descriptor, client.events)
                    continue
                answered += 1
            del waiting[descriptor]
            poller.unregister(descriptor)
        if time.monotonic() - last > patience:
            failure = failure or f"no answer within {patience:g} s"
            break
    return held, answered, failure


def connected(address: tuple[str, int], source: str | None, patience: float) -> socket.socket:
    """A socket that does not block any more. Raises OSError."""
    sock = socket.socket()
    try:
        sock.settimeout(patience)
        if source is not None:
            come_from(sock, source)
        sock.connect(address)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def come_from(sock: socket.socket, source: str) -> None:
    sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((source, 0))


def probe(
    address: tuple[str, int], source: str, message: bytes, answer: int, patience: float
) -> float | None:
    """Seconds from when a client more begins to connect until it is answered; None: it is not."""
    with socket.socket() as sock:
        sock.settimeout(patience)
        come_from(sock, source)
        begun = time.monotonic()
        try:
            sock.connect(address)
            sock.setblocking(False)
            answered = talk(Client(sock, memoryview(message), answer), patience)
        except OSError:
            answered = False
        return time.monotonic() - begun if answered else None


def talk(client: Client, patience: float) -> bool:
    """Whether it has its answer; it stops where nothing happens for so long. Raises OSError."""
    poller = select.poll()
    client.say()
    poller.register(client.sock, client.events)
    while poller.poll(patience * 1000):
        if client.go_on():
            return True
        poller.modify(client.sock, client.events)
    return False


def tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
