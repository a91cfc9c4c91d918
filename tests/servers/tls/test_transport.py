"""TLS between a transport and a protocol, on our loop and asyncio's: real sockets and clients."""

import asyncio
import gc
import logging
import re
import socket
import ssl
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from neverblock.cli.loops import factory
from neverblock.servers.tls import session, transport
from neverblock.servers.tls.transport import TlsTransport
from tests.servers.conftest import Run
from tests.servers.serving import PATIENCE, reset
from tests.servers.tls.client import DAMAGED, ClientSocket
from tests.servers.tls.conftest import Authority
from tests.servers.tls.fragment import logged_client, unfinished

DATA = bytes(range(256)) * 20_000


@dataclass(eq=False)
class Connection:
    """A protocol that notes what it is told, and lets a test wait for it."""

    peer: str = "somebody"
    transport: asyncio.Transport = field(init=False)
    calls: list[str] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    error: Exception | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, call: str) -> None:
        self.calls.append(call)
        self.changed.set()

    async def until(self, done: Callable[[], object]) -> None:
        while not done():
            self.changed.clear()
            await self.changed.wait()

    async def told(self, call: str) -> None:
        await self.until(lambda: call in self.calls)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.note("connection_made")

    def begin(self) -> None:
        self.note("begin")

    def data_received(self, data: bytes) -> None:
        assert data
        self.received += data
        self.changed.set()

    def eof_received(self) -> bool:
        self.note("eof_received")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.note("connection_lost")

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")


class Ends:
    """The server's end of a connection, and how to get the client's: in a thread that blocks."""

    def __init__(self, connection: Connection, raw: socket.socket, context: ssl.SSLContext) -> None:
        self.connection = connection
        self.raw = raw
        self._context = context

    async def secure(self) -> ClientSocket:
        client = await asyncio.to_thread(ClientSocket, self.raw, self._context)
        await self.connection.told("begin")
        return client


@asynccontextmanager
async def connected(
    authority: Authority,
    context: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
    connection: Connection | None = None,
) -> AsyncIterator[Ends]:
    """A connection that is accepted, before its handshake. It must be over in the end."""
    loop = asyncio.get_running_loop()
    connection = connection or Connection()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        raw = socket.create_connection(listening.getsockname())
        raw.settimeout(PATIENCE)
        accepted, _ = listening.accept()
    await loop.connect_accepted_socket(
        lambda: TlsTransport(loop, context or authority.server(), connection), accepted
    )
    with raw:
        yield Ends(connection, raw, client or authority.client())
        raw.close()
        await connection.told("connection_lost")
        assert connection.calls.count("connection_lost") == 1
        assert connection.calls[-1] == "connection_lost"


async def read(client: ClientSocket) -> bytes:
    """All that comes until the server ends it."""

    def blocking() -> bytes:
        data = bytearray()
        while chunk := client.recv(65536):
            data += chunk
        return bytes(data)

    return await asyncio.to_thread(blocking)


def test_each_half_ends_by_itself(run: Run, authority: Authority) -> None:
    async def main() -> None:
        async with connected(authority) as ends:
            client, server = await ends.secure(), ends.connection
            server.transport.write(b"all that I say")
            server.transport.write_eof()
            server.transport.write_eof()
            assert await read(client) == b"all that I say"
            # The client goes on, however much it has to say.
            await asyncio.to_thread(client.sendall, DATA)
            await server.until(lambda: len(server.received) == len(DATA))
            assert server.received == DATA
            assert "eof_received" not in server.calls
            with pytest.raises(RuntimeError):
                server.transport.write(b"more")
            client.shutdown(socket.SHUT_WR)
            await server.told("eof_received")
            server.transport.close()
            await server.told("connection_lost")
            assert server.error is None

    run(main())


@pytest.mark.parametrize("how", ["close_notify", "raw end"])
def test_a_client_that_ended_its_half_gets_its_answer(
    run: Run, authority: Authority, how: str
) -> None:
    async def main() -> None:
        async with connected(authority) as ends:
            client, server = await ends.secure(), ends.connection
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR) if how == "close_notify" else client.sock.shutdown(
                socket.SHUT_WR
            )
            await server.told("eof_received")
            assert server.received == b"question"
            server.transport.write(DATA)
            server.transport.close()
            server.transport.close()
            assert await read(client) == DATA
            await server.told("connection_lost")
            assert server.error is None
            assert server.calls.count("eof_received") == 1

    run(main())


def test_what_follows_the_peer_s_end_is_left_alone(run: Run, authority: Authority) -> None:
    async def main() -> None:
        async with connected(authority) as ends:
            client, server = await ends.secure(), ends.connection
            client.tls.end()
            client.sock.sendall(client.tls.outgoing.read() + b"what is this?")
            await server.told("eof_received")
            server.transport.resume_reading()
            assert not server.transport.is_reading()
            server.transport.write(b"answer")
            assert await asyncio.to_thread(client.recv, 6) == b"answer"
            server.transport.close()
            await server.told("connection_lost")
            assert not server.received

    run(main())


def test_a_protocol_may_close_at_the_end_of_its_input(run: Run, authority: Authority) -> None:
    class Closing(Connection):
        def eof_received(self) -> bool:
            super().eof_received()
            return False

    async def main() -> None:
        async with connected(authority, connection=Closing()) as ends:
            client = await ends.secure()
            client.shutdown(socket.SHUT_WR)
            assert await read(client) == b""
            await ends.connection.told("connection_lost")

    run(main())


def test_large_transfers_both_ways_at_once(
    run: Run, authority: Authority, version: ssl.TLSVersion
) -> None:
    async def main() -> None:
        async with connected(authority, client=authority.client(version=version)) as ends:
            client, server = await ends.secure(), ends.connection

            def send() -> None:
                client.sendall(DATA)
                client.shutdown(socket.SHUT_WR)

            sending = threading.Thread(target=send)
            sending.start()
            server.transport.writelines([memoryview(DATA), bytearray(b"the end")])
            server.transport.write_eof()
            assert await read(client) == DATA + b"the end"
            await server.told("eof_received")
            sending.join()
            assert server.received == DATA
            server.transport.close()

    run(main())


def test_a_slow_reader_makes_the_protocol_pause(run: Run, authority: Authority) -> None:
    async def main() -> None:
        async with connected(authority) as ends:
            client, server = await ends.secure(), ends.connection
            server.transport.set_write_buffer_limits(high=100_000)
            assert server.transport.get_write_buffer_limits() == (25_000, 100_000)
            sent = 0
            while "pause_writing" not in server.calls:
                server.transport.write(bytes(50_000))
                sent += 50_000
                await asyncio.sleep(0)
            assert server.transport.get_write_buffer_size() > 100_000
            assert "resume_writing" not in server.calls
            server.transport.close()
            assert len(await read(client)) == sent
            await server.told("connection_lost")

    run(main())


def test_a_protocol_that_pauses_is_told_nothing(run: Run, authority: Authority) -> None:
    async def main() -> None:
        async with connected(authority) as ends:
            client, server = await ends.secure(), ends.connection
            server.transport.pause_reading()
            assert not server.transport.is_reading()
            client.sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                while True:
                    await asyncio.to_thread(client.sendall, DATA)
            assert not server.received
            server.transport.resume_reading()
            await server.until(lambda: server.received)
            server.transport.abort()
            await server.told("connection_lost")

    run(main())


def test_what_a_transport_tells(run: Run, authority: Authority) -> None:
    async def main() -> None:
        context = authority.server(verify=True, alpn=("h2", "echo"))
        client = authority.client(name="alice", alpn=("echo",))
        async with connected(authority, context, client) as ends:
            assert ends.connection.transport.get_extra_info("tls") is None
            await ends.secure()
            info = ends.connection.transport.get_extra_info
            assert info("tls").alpn == "echo"
            assert info("tls").certificate == info("peercert")
            assert (("commonName", "alice"),) in info("peercert")["subject"]
            assert info("cipher")[0] == info("tls").cipher
            assert info("ssl_object").context is context
            assert info("peername") == ends.raw.getsockname()
            assert info("sslcontext", "none") == "none"
            assert ends.connection.transport.can_write_eof()
            protocol: object = ends.connection.transport.get_protocol()
            assert protocol is ends.connection
            ends.connection.transport.close()

    run(main())


def test_asyncio_s_streams_can_end_one_half(run: Run, authority: Authority) -> None:
    """They hold a transport with an "sslcontext" for one that cannot."""

    async def main() -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)

        class Streams(Connection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                protocol.connection_made(transport)

            def data_received(self, data: bytes) -> None:
                protocol.data_received(data)

            def eof_received(self) -> bool:
                return bool(protocol.eof_received())

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                protocol.connection_lost(exc)

        async with connected(authority, connection=Streams()) as ends:
            client = await ends.secure()
            loop = asyncio.get_running_loop()
            writer = asyncio.StreamWriter(ends.connection.transport, protocol, reader, loop)
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert await reader.read() == b"question"
            writer.write(b"answer")
            writer.write_eof()
            assert await read(client) == b"answer"
            writer.close()
            await writer.wait_closed()

    run(main())


HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (HTTP, "the peer speaks plain HTTP"),
        (b"\x05\x01\x00" * 20, "what the peer sent is no TLS"),
    ],
    ids=["HTTP", "SOCKS"],
)
def test_what_is_no_tls_is_told_in_one_line(
    run: Run, authority: Authority, caplog: pytest.LogCaptureFixture, sent: bytes, reason: str
) -> None:
    async def main() -> None:
        async with connected(authority) as ends:
            ends.raw.sendall(sent)
            assert await asyncio.to_thread(ends.raw.recv, 100) == b""
            await ends.connection.told("connection_lost")
            assert ends.connection.calls == ["connection_made", "connection_lost"]

    caplog.set_level(logging.INFO, "neverblock.server")
    run(main())
    assert caplog.messages == [f"TLS handshake with somebody failed: {reason}"]


def refused(ends: Ends, reason: str) -> None:
    with pytest.raises(ssl.SSLError, match=reason):
        # Under TLS 1.3 the client is done before the server has seen its certificate.
        ClientSocket(ends.raw, ends._context).recv(1)


@pytest.mark.parametrize(
    ("case", "at_client", "logged"),
    [
        ("no certificate", "CERTIFICATE_REQUIRED", "the peer showed no certificate"),
        ("a stranger's", "UNKNOWN_CA", "the peer's certificate is refused: "),
        ("mistrust", "CERTIFICATE_VERIFY_FAILED", "the peer does not know who signed our cert"),
        ("old", "PROTOCOL_VERSION", "the peer offers no version of TLS that we have"),
    ],
)
def test_a_handshake_that_fails_costs_its_own_connection(
    run: Run,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    case: str,
    at_client: str,
    logged: str,
) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if case != "mistrust":
        authority.ca.configure_trust(client)
    if case == "a stranger's":
        stranger = type(authority.ca)()
        stranger.issue_cert("stranger").configure_cert(client)
    if case == "old":
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
        client.set_ciphers("DEFAULT:@SECLEVEL=0")

    async def main() -> None:
        context = authority.server(verify=case in ("no certificate", "a stranger's"))
        async with connected(authority, context, client) as ends:
            await asyncio.to_thread(refused, ends, at_client)
            await ends.connection.told("connection_lost")
            assert ends.connection.calls == ["connection_made", "connection_lost"]

    caplog.set_level(logging.INFO, "neverblock.server")
    run(main())
    [message] = caplog.messages
    assert message.startswith(f"TLS handshake with somebody failed: {logged}")


@pytest.mark.parametrize("how", ["end", "reset", "reset after a while"])
def test_a_client_that_leaves_within_the_handshake(
    run: Run, authority: Authority, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    async def main() -> None:
        async with connected(authority) as ends:
            if how == "reset after a while":
                context = ends._context
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                half = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
                with pytest.raises(ssl.SSLWantReadError):
                    half.do_handshake()
                ends.raw.sendall(outgoing.read())
                await asyncio.to_thread(ends.raw.recv, 1)
            if how == "end":
                ends.raw.shutdown(socket.SHUT_WR)
            else:
                reset(ends.raw)
            await ends.connection.told("connection_lost")
            assert ends.connection.calls == ["connection_made", "connection_lost"]

    caplog.set_level(logging.DEBUG, "neverblock.server")
    run(main())
    [record] = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.message.startswith("TLS handshake with somebody failed: ")


def test_a_handshake_has_a_time_limit(
    run: Run,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert session.HANDSHAKE_TIMEOUT == 60
    monkeypatch.setattr(transport, "HANDSHAKE_TIMEOUT", 0.05)

    async def main() -> None:
        async with connected(authority) as ends:
            await ends.connection.told("connection_lost")
            assert ends.connection.calls == ["connection_made", "connection_lost"]

    caplog.set_level(logging.INFO, "neverblock.server")
    run(main())
    assert caplog.messages == [
        "TLS handshake with somebody failed: it takes longer than 0.05 s",
    ]


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_handshake_may_be_given_up(run: Run, authority: Authority, how: str) -> None:
    async def main() -> None:
        async with connected(authority) as ends:
            getattr(ends.connection.transport, how)()
            assert ends.connection.transport.is_closing()
            ends.connection.transport.write(b"not any more")
            await ends.connection.told("connection_lost")
            assert ends.connection.error is None

    run(main())


def test_a_damaged_record_is_told_after_what_came_before(run: Run, authority: Authority) -> None:
    async def main() -> None:
        async with connected(authority) as ends:
            client, server = await ends.secure(), ends.connection
            client.tls.write(b"whole")
            client.sock.sendall(client.tls.outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
            await server.told("connection_lost")
            assert server.received == b"whole"
            assert re.search(DAMAGED, str(server.error))
            with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
                await asyncio.to_thread(client.recv, 1)

    run(main())


@pytest.mark.parametrize("how", ["close", "write", "write_eof"])
def test_a_peer_may_leave_a_message_of_tls_unfinished(
    run: Run, authority: Authority, tmp_path: Path, how: str
) -> None:
    async def main() -> None:
        log = tmp_path / "keys"
        async with connected(authority, client=logged_client(authority, log)) as ends:
            client, server = await ends.secure(), ends.connection
            client.sock.sendall(unfinished(client, log))
            client.sock.shutdown(socket.SHUT_WR)
            await server.told("eof_received")
            assert server.transport.get_extra_info("tls").version == "TLSv1.3"
            assert server.transport.get_extra_info("peercert") is None
            if how == "write":
                server.transport.write(b"answer")
            elif how == "write_eof":
                server.transport.write_eof()
            if how != "write":
                server.transport.close()
            await server.told("connection_lost")
            if how == "write":
                assert "has not finished a message" in str(server.error)
            else:
                assert server.error is None

    run(main())


def test_a_reset_is_told_as_without_tls(run: Run, authority: Authority) -> None:
    async def main() -> None:
        async with connected(authority) as ends:
            client, server = await ends.secure(), ends.connection
            reset(client.sock)
            await server.told("connection_lost")
            assert isinstance(server.error, ConnectionResetError)

    run(main())


def test_a_client_that_only_sends_is_heard_to_its_end(run: Run, authority: Authority) -> None:
    """Tickets that it has not read would make its close a reset."""

    async def main() -> None:
        async with connected(authority) as ends:
            client, server = await ends.secure(), ends.connection
            await asyncio.to_thread(client.sendall, DATA)
            client.close()
            await server.told("eof_received")
            assert server.received == DATA
            server.transport.close()

    run(main())


@pytest.mark.parametrize("how", ["close", "handshake", "damage", "reset"])
def test_no_connection_needs_the_collector(authority: Authority, how: str) -> None:
    """Ask it of our loop alone: asyncio's transports are in cycles of their own."""

    async def connection() -> "weakref.ref[asyncio.Transport]":
        async with connected(authority) as ends:
            transport = weakref.ref(ends.connection.transport)
            if how == "handshake":
                ends.raw.sendall(HTTP)
                await ends.connection.told("connection_lost")
                return transport
            client = await ends.secure()
            if how == "damage":
                client.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
                await ends.connection.told("connection_lost")
            elif how == "reset":
                reset(client.sock)
            else:
                ends.connection.transport.close()
        return transport

    async def main() -> None:
        transport = await connection()
        await asyncio.sleep(0)  # The raw transport lets go once it has told.
        assert transport() is None

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=factory(None)) as runner:
            runner.run(main())
    finally:
        gc.enable()
