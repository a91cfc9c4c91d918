"""TLS: streams and protocols, start_tls in mid-stream, ends with and without a good-bye."""

import asyncio
import contextlib
import socket
import ssl

import pytest
import trustme

from .wire import Recorder, pair, pattern, read_exactly, reset


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def contexts(authority):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@contextlib.asynccontextmanager
async def serving(handler, context, **kwargs):
    """A server whose connections are all over at the end; its handlers' failures are raised."""
    tasks = set()

    async def handle(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context, **kwargs)
    yield server.sockets[0].getsockname()
    server.close()
    await asyncio.gather(*tasks)


async def close(writer):
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


async def connect(address, context, **kwargs):
    return await asyncio.open_connection(
        *address, ssl=context, server_hostname="localhost", **kwargs
    )


def test_echo(run, contexts):
    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def main():
        async with serving(echo, contexts[0]) as address:
            reader, writer = await connect(address, contexts[1])
            for size in (1, 100, 16384, 16385, 1_000_000):
                writer.write(pattern(size))
                assert await reader.readexactly(size) == pattern(size)
            info = writer.get_extra_info
            assert info("sslcontext") is contexts[1]
            assert ("DNS", "localhost") in info("peercert")["subjectAltName"]
            assert info("cipher")
            assert isinstance(info("ssl_object"), ssl.SSLObject)
            assert info("peername")[:2] == address[:2]
            assert not writer.transport.can_write_eof()
            await close(writer)

    run(main)


@pytest.mark.heavy
def test_large_transfers_both_ways_at_once(run, contexts):
    data = pattern(8_000_000)

    async def swap(reader, writer):
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        await writer.drain()

    async def main():
        async with serving(swap, contexts[0]) as address:
            for _ in range(2):
                reader, writer = await connect(address, contexts[1])
                writer.write(data)
                assert await reader.readexactly(len(data)) == data
                await writer.drain()
                assert await reader.read() == b""
                await close(writer)

    run(main)


def test_many_connections_at_once(run, contexts):
    async def greet(reader, writer):
        writer.write(b"hello " + await reader.readline())

    async def main():
        async def talk(n):
            reader, writer = await connect(address, contexts[1])
            writer.write(b"%d\n" % n)
            assert await reader.read() == b"hello %d\n" % n
            await close(writer)

        async with serving(greet, contexts[0]) as address:
            await asyncio.gather(*(talk(n) for n in range(50)))

    run(main)


async def greet_once(reader, writer):
    writer.write(b"hello")


def test_a_wrong_certificate_is_an_error_at_the_client(run, contexts, trouble):
    async def main():
        async with serving(greet_once, contexts[0]) as address:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(
                    *address, ssl=ssl.create_default_context(), server_hostname="localhost"
                )
            reader, writer = await connect(address, contexts[1])  # the server goes on
            assert await reader.read() == b"hello"
            await close(writer)

    run(main)
    trouble.take()  # the server may tell of the failed handshake


def test_a_handshake_that_takes_too_long_is_given_up(run, contexts):
    async def main():
        loop = asyncio.get_running_loop()
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            pytest.raises(ConnectionAbortedError, match="longer than"),
        ):
            await loop.create_connection(
                Recorder,
                *silent.getsockname(),
                ssl=contexts[1],
                server_hostname="localhost",
                ssl_handshake_timeout=0.05,
            )

    run(main)


@pytest.mark.parametrize("how", ["nothing", "garbage", "end", "reset"])
def test_a_client_that_does_not_finish_its_handshake(run, contexts, trouble, how):
    """It is let go, and others are served."""

    async def main():
        async with serving(greet_once, contexts[0], ssl_handshake_timeout=0.2) as address:
            bad = socket.create_connection(address)
            if how == "garbage":
                bad.sendall(b"GET / HTTP/1.0\r\n\r\n")
            elif how == "end":
                bad.shutdown(socket.SHUT_WR)
            elif how == "reset":
                reset(bad)
            reader, writer = await connect(address, contexts[1])
            assert await reader.read() == b"hello"
            await close(writer)
            if how == "reset":
                await asyncio.sleep(0.3)  # past the time limit of the handshake
            else:
                bad.settimeout(20)
                with contextlib.suppress(ConnectionResetError):
                    while await asyncio.to_thread(bad.recv, 1000):
                        pass
                bad.close()

    run(main)
    trouble.take()


def talk_and_drop(sock, context):
    tls = context.wrap_socket(sock, server_side=True)
    tls.sendall(b"data")
    assert tls.recv(3) == b"bye"
    raw = socket.socket(fileno=tls.detach())
    raw.shutdown(socket.SHUT_RDWR)
    raw.close()


def test_a_peer_that_closes_without_good_bye(run, contexts):
    """An end is told to the protocol, and the loss carries no error."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair("tcp")
        peer = asyncio.create_task(asyncio.to_thread(talk_and_drop, theirs, contexts[0]))
        _, a = await loop.create_connection(
            Recorder, sock=ours, ssl=contexts[1], server_hostname="localhost"
        )
        assert await a.received(4) == b"data"
        a.transport.write(b"bye")
        await peer
        assert await a.lost() is None
        assert a.calls[-2:] == ["eof_received", "connection_lost"]

    run(main)


def test_start_tls_upgrades_both_ends(run, contexts):
    async def upgrade(reader, writer):
        loop = asyncio.get_running_loop()
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go ahead\n")  # and right away, with nothing flushed yet
        transport = await loop.start_tls(
            writer.transport, writer.transport.get_protocol(), contexts[0], server_side=True
        )
        writer._transport = transport
        reader._transport = transport
        writer.write(b"secret " + await reader.readline())

    async def main():
        async with serving(upgrade, None) as address:
            for n in range(10):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"STARTTLS\n")
                assert await reader.readline() == b"go ahead\n"
                await writer.start_tls(contexts[1], server_hostname="localhost")
                writer.write(b"%d\n" % n)
                assert await reader.read() == b"secret %d\n" % n
                await close(writer)

    run(main)


def test_start_tls_with_a_blocking_peer(run, contexts):
    """What was written in the clear goes out before the first message of the handshake."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair("tcp")

        def peer():
            assert read_exactly(theirs, 9) == b"STARTTLS\n"
            with contexts[0].wrap_socket(theirs, server_side=True) as tls:
                tls.sendall(tls.recv(100).upper())
                assert tls.recv(100) == b""

        peering = asyncio.create_task(asyncio.to_thread(peer))
        transport, a = await loop.create_connection(Recorder, sock=ours)
        transport.write(b"START")
        transport.write(b"TLS\n")
        tls = await loop.start_tls(transport, a, contexts[1], server_hostname="localhost")
        a.transport = tls
        tls.write(b"quiet")
        assert await a.received(5) == b"QUIET"
        tls.close()
        await peering
        assert await a.lost() is None

    run(main)


def test_start_tls_may_fail(run, contexts, trouble):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair("tcp")
        transport, a = await loop.create_connection(Recorder, sock=ours)
        upgrading = asyncio.create_task(
            loop.start_tls(transport, a, contexts[1], server_hostname="localhost")
        )
        await asyncio.to_thread(theirs.recv, 10)
        theirs.sendall(b"this is no TLS at all, not even nearly\n")
        with pytest.raises(ssl.SSLError):
            await upgrading
        for _ in range(5):
            await asyncio.sleep(0)
        theirs.close()

    run(main)
    trouble.take()


def test_start_tls_after_the_peers_end_fails_at_once(run, contexts):
    """The end was told to the protocol before; the handshake is told of it as well."""

    async def main():
        ours, theirs = pair("tcp")
        theirs.sendall(b"no TLS here\n")
        theirs.shutdown(socket.SHUT_WR)
        reader, writer = await asyncio.open_connection(sock=ours)
        assert await reader.read() == b"no TLS here\n"
        with pytest.raises(ConnectionError):
            await writer.start_tls(contexts[1], server_hostname="localhost")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        theirs.close()

    run(main)


def test_flow_control_through_tls(run, contexts):
    paused = asyncio.Event()

    async def slow(reader, writer):
        await paused.wait()
        while await reader.read(1 << 20):
            pass

    async def main():
        loop = asyncio.get_running_loop()
        async with serving(slow, contexts[0], limit=1000) as address:
            _, a = await loop.create_connection(
                lambda: Recorder(pause_writing=lambda protocol: paused.set()),
                *address,
                ssl=contexts[1],
                server_hostname="localhost",
            )
            while not a.paused:
                a.transport.write(bytes(50_000))
                await asyncio.sleep(0)
            await a.until(lambda: not a.paused)
            a.transport.close()
            await a.lost()

    run(main)


def test_sendfile_over_tls_falls_back(run, contexts, tmp_path):
    path = tmp_path / "content"
    path.write_bytes(pattern(300_000))

    async def send(reader, writer):
        loop = asyncio.get_running_loop()
        with path.open("rb") as file:
            writer.write(b"<")
            assert await loop.sendfile(writer.transport, file) == 300_000
            writer.write(b">")
            file.seek(0)
            with pytest.raises(RuntimeError, match=r"[Ff]allback"):
                await loop.sendfile(writer.transport, file, fallback=False)

    async def main():
        async with serving(send, contexts[0]) as address:
            reader, writer = await connect(address, contexts[1])
            assert await reader.read() == b"<" + pattern(300_000) + b">"
            await close(writer)

    run(main)


def test_abort(run, contexts):
    async def until_the_end(reader, writer):
        writer.write(b"!")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() in (b"", b"x")

    async def main():
        async with serving(until_the_end, contexts[0]) as address:
            reader, writer = await connect(address, contexts[1])
            assert await reader.read(1) == b"!"
            writer.write(b"x")
            writer.transport.abort()

    run(main)
