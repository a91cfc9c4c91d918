"""Answers that TLS itself owes a peer (RFC 8446, 4.6.3), and a peer that asks and never reads.

Python's ssl has no call for a key update, so OpenSSL is asked itself.
"""

import asyncio
import ctypes
import ctypes.util
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from neverblock.servers.tls.blocking import TlsSocket
from neverblock.servers.tls.session import TlsError
from neverblock.servers.tls.transport import TlsTransport
from tests.servers.conftest import Run
from tests.servers.serving import PATIENCE
from tests.servers.tls.conftest import Authority
from tests.servers.tls.test_transport import Connection

REQUESTED = 1
#: Seconds in which a client that has all it needs answers; one that needs more is given more.
SOON = 0.1


class OpenSSL:
    """A client by OpenSSL's own calls, over a connected socket that blocks, in any thread."""

    def __init__(self, sock: socket.socket) -> None:
        path = ctypes.util.find_library("ssl")
        if path is None:
            pytest.skip("there is no libssl to be found")
        self._library = library = ctypes.CDLL(path)
        if not hasattr(library, "SSL_key_update"):
            pytest.skip(f"{path} is too old for key updates")
        for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(library, name).restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(
            library.SSL_CTX_new(ctypes.c_void_p(library.TLS_client_method()))
        )
        self._ssl = ctypes.c_void_p(library.SSL_new(self._context))
        library.SSL_set_fd(self._ssl, sock.fileno())
        self._sock = sock
        self._using = threading.Lock()
        self._closed = False

    def _call(self, name: str, *arguments: object) -> int:
        with self._using:
            if self._closed:
                return -1
            return int(getattr(self._library, name)(self._ssl, *arguments))

    def connect(self) -> None:
        assert self._call("SSL_connect") == 1

    def update_key(self) -> bool:
        """Ask for an answer; whether that went out."""
        return self._call("SSL_key_update", REQUESTED) == 1 and self._call("SSL_do_handshake") == 1

    def update_keys_for_ever(self) -> None:
        while self.update_key():
            pass

    def ask(self, data: bytes) -> bytes:
        assert self._call("SSL_write", data, len(data)) == len(data)
        answer = ctypes.create_string_buffer(len(data))
        assert self._call("SSL_read", answer, len(data)) == len(data)
        return answer.raw

    def hang_up(self) -> None:
        """End what another thread waits for in a call of it."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Also while another thread waits in a call of it."""
        self.hang_up()
        with self._using:
            self._closed = True
            self._library.SSL_free(self._ssl)
            self._library.SSL_CTX_free(self._context)


def pair() -> tuple[socket.socket, socket.socket]:
    """A client's socket and the server's, whose kernel holds little."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listening.getsockname())
        server, _ = listening.accept()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return client, server


@pytest.fixture
def ends() -> Iterator[tuple[OpenSSL, socket.socket]]:
    sock, server = pair()
    with sock, server, closing(OpenSSL(sock)) as client:
        yield client, server


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_blocking_server_answers(
    ends: tuple[OpenSSL, socket.socket], authority: Authority, timeout: float | None
) -> None:
    client, sock = ends
    sock.settimeout(timeout)

    def serve() -> None:
        server = TlsSocket(sock, authority.server())
        server.handshake()
        for _ in range(4):
            server.sendall(server.recv(100))

    serving = threading.Thread(target=serve)
    serving.start()
    client.connect()
    assert client.ask(b"none") == b"none"
    for number in (1, 2, 3):
        for _ in range(number):
            assert client.update_key()
        assert client.ask(b"%d" % number) == b"%d" % number
    serving.join()


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_blocking_server_does_not_answer_for_ever(
    ends: tuple[OpenSSL, socket.socket], authority: Authority, timeout: float | None
) -> None:
    client, sock = ends
    sock.settimeout(timeout)
    server = TlsSocket(sock, authority.server())

    def flood() -> None:
        client.connect()
        client.update_keys_for_ever()

    flooding = threading.Thread(target=flood)
    flooding.start()
    server.handshake()
    with pytest.raises(TlsError, match="asks for answers and reads none"):
        server.recv(100)
    client.hang_up()  # It may wait for the server to read: nothing of the server's gets through.
    flooding.join()


def test_what_comes_with_the_end_of_the_handshake_does_not_hold_it_up(authority: Authority) -> None:
    """Requests in the same packet as the client's last message, whose answers nobody reads."""
    theirs, between = socket.socketpair()
    relayed, sock = socket.socketpair()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def relay() -> None:
        relayed.sendall(between.recv(65536))  # ClientHello
        held = b""
        while not held:
            between.sendall(relayed.recv(65536))
            if select.select([between], [], [], SOON)[0]:
                held = between.recv(65536)
        while len(held) < 30_000:
            held += between.recv(65536)
        relayed.sendall(held)

    def flood(client: OpenSSL) -> None:
        client.connect()
        client.update_keys_for_ever()

    with theirs, between, relayed, sock, closing(OpenSSL(theirs)) as client:
        threads = [
            threading.Thread(target=relay),
            threading.Thread(target=flood, args=(client,)),
        ]
        for thread in threads:
            thread.start()
        assert TlsSocket(sock, authority.server()).handshake().version == "TLSv1.3"
        client.hang_up()
        for thread in threads:
            thread.join()


def test_a_transport_answers_and_not_for_ever(run: Run, authority: Authority) -> None:
    async def main() -> None:
        connection = Connection()
        sock, accepted = pair()
        context: ssl.SSLContext = authority.server()
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(
            lambda: TlsTransport(loop, context, connection), accepted
        )
        with sock, closing(OpenSSL(sock)) as client:
            await asyncio.to_thread(client.connect)
            for _ in range(3):
                assert client.update_key()
                asking = asyncio.create_task(asyncio.to_thread(client.ask, b"x"))
                await connection.until(lambda: connection.received)
                connection.transport.write(bytes(connection.received))
                connection.received.clear()
                assert await asking == b"x"
            flooding = asyncio.create_task(asyncio.to_thread(client.update_keys_for_ever))
            await connection.told("connection_lost")
            assert "asks for answers and reads none" in str(connection.error)
            await flooding

    run(main())
