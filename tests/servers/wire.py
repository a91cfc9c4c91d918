"""What a client does with its connection: plain or TLS, in one thread, waiting for both ways."""

import selectors
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from tests.servers.serving import PATIENCE, exactly

#: What a non-blocking socket says where a blocking one would wait.
NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def ask(client: socket.socket, data: bytes) -> bytes:
    """Send, and receive as many bytes."""
    client.sendall(data)
    return exactly(client, len(data))


def everything(client: socket.socket) -> bytes:
    """What comes until the other side ends it."""
    data = bytearray()
    while chunk := client.recv(65536):
        data += chunk
    return bytes(data)


def end(client: socket.socket) -> None:
    """Send nothing more, and go on receiving."""
    if not isinstance(client, ssl.SSLSocket):
        client.shutdown(socket.SHUT_WR)
        return
    with at_once(client):
        while True:
            try:
                client.unwrap()  # Sends close_notify (RFC 8446, 6.1), waits for the other's.
            except ssl.SSLWantWriteError:
                wait(client, selectors.EVENT_WRITE)
            except ssl.SSLWantReadError:
                return
            else:
                return


def says_nothing(client: socket.socket) -> bool:
    """Whether there is nothing to receive now, not even an end."""
    with at_once(client), suppress(*NOT_YET):
        client.recv(1)
        return False
    return True


def exchange(
    client: socket.socket, pieces: Iterable[bytes], received: Callable[[bytes], object]
) -> None:
    """Send and receive at once, until the other side ends it; then ``pieces`` must be sent."""
    left = memoryview(b"")
    following = iter(pieces)
    wanted = selectors.EVENT_READ | selectors.EVENT_WRITE
    with at_once(client):
        while True:
            ready = wait(client, wanted)
            if ready & selectors.EVENT_WRITE:
                left = left or memoryview(next(following, b""))
                if left:
                    with suppress(*NOT_YET):
                        left = left[client.send(left) :]
                else:
                    end(client)
                    wanted = selectors.EVENT_READ
            if ready & selectors.EVENT_READ:
                with suppress(*NOT_YET):
                    while data := client.recv(256 * 1024):
                        received(data)
                    assert wanted == selectors.EVENT_READ, "it ended before all was sent"
                    return


def wait(client: socket.socket, events: int) -> int:
    """Until one of these selectors' events is there; those that are."""
    with selectors.DefaultSelector() as selector:
        selector.register(client, events)
        ready = selector.select(PATIENCE)
    assert ready, f"nothing moved within {PATIENCE:g} s"
    return ready[0][1]


@contextmanager
def at_once(client: socket.socket) -> Iterator[None]:
    """Within it, nothing waits."""
    patience = client.gettimeout()
    client.setblocking(False)
    try:
        yield
    finally:
        client.settimeout(patience)
