"""Answers that TLS itself owes a peer (RFC 8446, 4.6.3), and a peer that asks and never reads.

Python's ssl has no call for a key update, so OpenSSL is asked itself.
"""

import asyncio
import ctypes
import ctypes.util
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

    def close(self) -> None:
        """Also while another thread waits in a call of it."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
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
    sock.shutdown(socket.SHUT_RDWR)
    flooding.join()


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
