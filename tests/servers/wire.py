"""What a client does with its connection, plain or TLS."""

import socket
import threading
from collections.abc import Callable, Iterable

from tests.servers.serving import exactly
from tests.servers.tls.client import ClientSocket

#: A client's connection, whether it is a socket or speaks TLS over one.
Client = socket.socket | ClientSocket


def ask(client: Client, data: bytes) -> bytes:
    """Send, and receive as many bytes."""
    client.sendall(data)
    return exactly(client, len(data))


def everything(client: Client) -> bytes:
    """What comes until the other side ends it."""
    data = bytearray()
    while chunk := client.recv(65536):
        data += chunk
    return bytes(data)


def end(client: Client) -> None:
    """Send nothing more, and go on receiving."""
    client.shutdown(socket.SHUT_WR)


def says_nothing(client: socket.socket) -> bool:
    """Whether there is nothing to receive now, not even an end."""
    patience = client.gettimeout()
    client.setblocking(False)
    try:
        client.recv(1)
    except BlockingIOError:
        return True
    finally:
        client.settimeout(patience)
    return False


def exchange(client: Client, pieces: Iterable[bytes], received: Callable[[bytes], object]) -> None:
    """Send and receive at once, and end the sending half; until the other side ends its own."""

    def send() -> None:
        for piece in pieces:
            client.sendall(piece)
        end(client)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        while data := client.recv(256 * 1024):
            received(data)
    finally:
        sending.join()
