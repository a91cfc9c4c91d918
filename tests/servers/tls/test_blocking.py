"""TLS over a blocking socket: threads that send and receive at once, time limits, every end."""

import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neverblock.servers.tls import blocking
from neverblock.servers.tls.blocking import TlsSocket
from neverblock.servers.tls.session import TlsError
from tests.servers.serving import PATIENCE, reset
from tests.servers.tls.client import DAMAGED, ClientSocket
from tests.servers.tls.conftest import Authority
from tests.servers.tls.fragment import logged_client, unfinished

DATA = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def raw() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname(), PATIENCE)
        server, _ = listening.accept()
    with client, server:
        yield client, server


@pytest.fixture(params=[None, PATIENCE], ids=["no timeout", "timeout"])
def ends(
    raw: tuple[socket.socket, socket.socket], authority: Authority, request: pytest.FixtureRequest
) -> tuple[ClientSocket, TlsSocket]:
    """The same, secure; the server's with and without a timeout, which Python does differently."""
    client, sock = raw
    sock.settimeout(request.param)
    server = TlsSocket(sock, authority.server())
    clients: list[ClientSocket] = []
    connecting = beside(lambda: clients.append(ClientSocket(client, authority.client())))
    info = server.handshake()
    connecting.join()
    assert info.version == "TLSv1.3"
    assert sock.gettimeout() == request.param
    return clients[0], server


def beside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def everything(sock: ClientSocket | TlsSocket) -> bytes:
    data = bytearray()
    while chunk := sock.recv(65536):
        data += chunk
    return bytes(data)


def test_threads_send_and_receive_at_once(ends: tuple[ClientSocket, TlsSocket]) -> None:
    client, server = ends
    received: list[bytes] = []

    def client_sends() -> None:
        client.sendall(DATA)
        client.shutdown(socket.SHUT_WR)

    def server_sends(byte: int) -> None:
        for size in random.Random(byte).sample(range(1, 70_000), 10):
            server.send(bytes([byte]) * size)

    threads = [
        beside(client_sends),
        beside(lambda: received.append(everything(server))),
        *[beside(lambda byte=byte: server_sends(byte)) for byte in range(4)],
    ]
    answers: list[bytes] = []
    reading = beside(lambda: answers.append(everything(client)))
    for thread in threads:
        thread.join()
    server.say_end()
    reading.join()
    assert received == [DATA]
    # What one call sends stays in one piece, or its first 64 KiB do.
    sizes = sum(
        min(size, 65536)
        for byte in range(4)
        for size in random.Random(byte).sample(range(1, 70_000), 10)
    )
    assert len(answers[0]) == sizes


def test_each_half_ends_by_itself(ends: tuple[ClientSocket, TlsSocket]) -> None:
    client, server = ends
    server.sendall(memoryview(DATA[:100]))
    server.shutdown(socket.SHUT_WR)
    server.say_end()
    assert everything(client) == DATA[:100]
    sending = beside(lambda: (client.sendall(DATA), client.shutdown(socket.SHUT_WR)))
    assert everything(server) == DATA
    assert server.recv(1) == b""
    sending.join()


def test_as_little_as_is_asked_for(ends: tuple[ClientSocket, TlsSocket]) -> None:
    client, server = ends
    client.sendall(b"hello")
    assert [server.recv(2), server.recv(1), server.recv(10)] == [b"he", b"l", b"lo"]
    client.sock.shutdown(socket.SHUT_WR)
    assert server.recv(10) == b""
    assert server.send(b"") == 0
    assert server.send(bytearray(b"x" * 100_000)) == 65536
    server.close()
    assert server.fileno() == -1


def test_what_came_before_a_damaged_record_is_handed_out(
    ends: tuple[ClientSocket, TlsSocket],
) -> None:
    client, server = ends
    client.tls.write(b"whole")
    client.sock.sendall(client.tls.outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
    assert server.recv(100) == b"whole"
    for _ in range(2):
        with pytest.raises(TlsError, match=DAMAGED):
            server.recv(100)
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        client.recv(1)


def test_who_has_lost_the_wire_does_not_say_goodbye(
    raw: tuple[socket.socket, socket.socket], authority: Authority
) -> None:
    client, sock = raw
    server = TlsSocket(sock, authority.server())
    connecting = beside(lambda: ClientSocket(client, authority.client()))
    server.handshake()
    connecting.join()
    server.settimeout(0.05)
    with pytest.raises(TimeoutError):
        while True:
            server.sendall(DATA)
    server.say_end()  # In the midst of a record it would be damage.
    reset(client)


def test_a_handshake_has_a_time_limit(
    raw: tuple[socket.socket, socket.socket],
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert blocking.HANDSHAKE_TIMEOUT == 60
    monkeypatch.setattr(blocking, "HANDSHAKE_TIMEOUT", 0.05)
    with pytest.raises(TlsError, match="longer than 0.05 s"):
        TlsSocket(raw[1], authority.server()).handshake()
    assert raw[1].gettimeout() is None


def test_a_client_that_leaves_within_the_handshake(
    raw: tuple[socket.socket, socket.socket], authority: Authority
) -> None:
    raw[0].sendall(b"\x16\x03\x01")
    raw[0].shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError, match="the peer left"):
        TlsSocket(raw[1], authority.server()).handshake()


def test_a_client_may_leave_a_message_of_tls_unfinished(
    raw: tuple[socket.socket, socket.socket], authority: Authority, tmp_path: Path
) -> None:
    sock, accepted = raw
    log = tmp_path / "keys"
    server = TlsSocket(accepted, authority.server())
    clients: list[ClientSocket] = []
    context = logged_client(authority, log)
    connecting = beside(lambda: clients.append(ClientSocket(sock, context)))
    server.handshake()
    connecting.join()
    sock.sendall(unfinished(clients[0], log))
    sock.shutdown(socket.SHUT_WR)
    assert server.recv(10) == b""
    with pytest.raises(TlsError, match="has not finished a message"):
        server.send(b"answer")
    server.shutdown(socket.SHUT_WR)
