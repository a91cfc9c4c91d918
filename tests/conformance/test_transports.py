"""What suites demand of transports and servers: the transports' rows of what real suites trip over.

Each test runs on asyncio's own loop first: what fails there is a wrong test.
"""

import asyncio
import socket
import ssl
import sys

import pytest


class Recorder(asyncio.Protocol):
    """Notes what the transport calls; `gone` is done at its end."""

    keep_open = None  # what eof_received answers

    def __init__(self):
        self.calls = []
        self.data = bytearray()
        self.made = asyncio.get_running_loop().create_future()
        self.eof = asyncio.get_running_loop().create_future()
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.calls.append("connection_made")
        self.transport = transport
        self.made.set_result(transport)

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        self.calls.append("eof_received")
        self.eof.set_result(None)
        return self.keep_open

    def connection_lost(self, exc):
        self.calls.append("connection_lost")
        self.gone.set_result(exc)


async def connected_pair(server_tls=None, client_tls=None, server_protocol=Recorder, path=None):
    """A server, its one connection's protocol and the client's; on a Unix socket with a path."""
    loop = asyncio.get_running_loop()
    accepted = loop.create_future()

    def accept():
        protocol = server_protocol()
        protocol.made.add_done_callback(lambda made: accepted.set_result(protocol))
        return protocol

    if path is not None:
        server = await loop.create_unix_server(accept, path)
        _, client = await loop.create_unix_connection(Recorder, path)
        return server, await accepted, client
    server = await loop.create_server(accept, "127.0.0.1", 0, ssl=server_tls)
    address = server.sockets[0].getsockname()
    _, client = await loop.create_connection(
        Recorder, *address, ssl=client_tls, server_hostname="localhost" if client_tls else None
    )
    return server, await accepted, client


async def shut(server, *protocols):
    server.close()
    for protocol in protocols:
        protocol.transport.close()
        await protocol.gone
    await server.wait_closed()


@pytest.mark.parametrize("wire", ["tcp", "unix"])
def test_a_stream_transport_is_asyncios(run, wire, tmp_path):
    async def main():
        path = tmp_path / "socket" if wire == "unix" else None
        server, accepted, client = await connected_pair(path=path)
        for transport in (accepted.transport, client.transport):
            assert isinstance(transport, asyncio.Transport)
        await shut(server, accepted, client)

    run(main)


def test_pipe_transports_are_asyncios(run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        transport = process.stdin.transport
        assert isinstance(transport, asyncio.WriteTransport)
        subprocess_transport = process._transport
        assert isinstance(subprocess_transport, asyncio.SubprocessTransport)
        assert isinstance(subprocess_transport.get_pipe_transport(1), asyncio.ReadTransport)
        transport.note = "mine"
        assert transport.note == "mine"
        await process.communicate(b"")

    run(main)


def test_a_datagram_transport_is_asyncios(run):
    async def main():
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            Recorder, local_addr=("127.0.0.1", 0)
        )
        # 3.11's own is no DatagramTransport.
        later = sys.version_info >= (3, 12)
        assert isinstance(transport, asyncio.DatagramTransport if later else asyncio.BaseTransport)
        transport.note = "mine"
        assert transport.note == "mine"
        transport.close()
        await protocol.gone

    run(main)


@pytest.mark.parametrize(
    "name", ["write", "close", "pause_reading", "is_closing", "get_extra_info"]
)
def test_a_method_of_a_transport_can_be_replaced(run, name):
    async def main():
        server, accepted, client = await connected_pair()
        seen = []
        setattr(client.transport, name, lambda *arguments: seen.append(arguments))
        getattr(client.transport, name)(b"an argument")
        assert seen == [(b"an argument",)]
        delattr(client.transport, name)
        assert callable(getattr(client.transport, name))
        await shut(server, accepted, client)

    run(main)


def test_a_streams_writer_uses_the_write_put_on_its_transport(run):
    async def main():
        server, accepted, client = await connected_pair()
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        writer = asyncio.StreamWriter(client.transport, Recorder(), reader, loop)
        seen = []
        client.transport.write = seen.append
        writer.write(b"data")
        assert seen == [b"data"]
        await shut(server, accepted, client)

    run(main)


def test_a_protocol_can_be_changed_under_a_transport(run):
    async def main():
        server, accepted, client = await connected_pair()
        second = Recorder()
        second.transport = client.transport
        client.transport.set_protocol(second)
        assert client.transport.get_protocol() is second
        accepted.transport.write(b"for the second")
        accepted.transport.close()
        await second.gone
        assert (bytes(client.data), bytes(second.data)) == (b"", b"for the second")
        assert (client.calls, second.calls) == (
            ["connection_made"],
            ["eof_received", "connection_lost"],
        )
        await shut(server, accepted)

    run(main)


def test_a_server_tells_its_tls_context(run, server_tls):
    async def main():
        loop = asyncio.get_running_loop()
        plain = await loop.create_server(Recorder, "127.0.0.1", 0)
        secure = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_tls)
        assert plain._ssl_context is None
        assert secure._ssl_context is server_tls
        for server in (plain, secure):
            server.close()
            await server.wait_closed()

    run(main)


def test_a_tls_peer_that_closes_without_a_word_is_an_end_of_file(run, server_tls, client_tls):
    """RFC 8446, 6.1 wants close_notify first; asyncio takes a bare TCP end as the end."""

    async def main():
        server, accepted, client = await connected_pair(server_tls, client_tls)
        accepted.transport.write(b"last words")
        raw = accepted.transport.get_extra_info("socket")
        # The loop wrote to the socket at once, for nothing else waits: only the end is missing.
        raw.shutdown(socket.SHUT_WR)
        assert await client.gone is None
        assert bytes(client.data) == b"last words"
        assert client.calls == ["connection_made", "eof_received", "connection_lost"]
        await shut(server, accepted)

    run(main)


def test_a_tls_peer_that_closes_politely_is_an_end_of_file(run, server_tls, client_tls):
    async def main():
        server, accepted, client = await connected_pair(server_tls, client_tls)
        accepted.transport.write(b"last words")
        accepted.transport.close()
        assert await client.gone is None
        assert bytes(client.data) == b"last words"
        assert client.calls[-1] == "connection_lost"
        await shut(server, accepted)

    run(main)


class HalfClosed(Recorder):
    """Answers after the client has said all it has to say."""

    keep_open = True


def test_a_half_closed_client_gets_its_answer(run):
    async def main():
        server, accepted, client = await connected_pair(server_protocol=HalfClosed)
        client.transport.write(b"question")
        client.transport.write_eof()
        await accepted.eof
        assert bytes(accepted.data) == b"question"
        assert not accepted.transport.is_closing()
        answer = b"answer" * 100_000
        accepted.transport.write(answer)
        accepted.transport.close()
        await client.gone
        assert bytes(client.data) == answer
        assert await accepted.gone is None
        await shut(server)

    run(main)


def test_a_half_closed_client_gets_its_answer_from_a_streams_handler(run):
    async def answer(reader, writer):
        question = await reader.read()
        await asyncio.sleep(0)
        writer.write(question[::-1])
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"question")
        writer.write_eof()
        assert await reader.read() == b"noitseuq"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main)


@pytest.mark.parametrize("fallback", [True, False])
def test_sendfile_sends_the_part_asked_for(run, tmp_path, fallback):
    content = bytes(range(256)) * 4096
    path = tmp_path / "file"
    path.write_bytes(content)

    async def main():
        server, accepted, client = await connected_pair()
        client.transport.write(b"before|")
        with path.open("rb") as file:
            sent = await asyncio.get_running_loop().sendfile(
                client.transport, file, 1000, 500_000, fallback=fallback
            )
            assert sent == 500_000
            assert file.tell() == 501_000
        client.transport.write(b"|after")
        client.transport.close()
        await accepted.gone
        assert bytes(accepted.data) == b"before|" + content[1000:501_000] + b"|after"
        await shut(server, client)

    run(main)


def test_sendfile_over_tls_falls_back(run, tmp_path, server_tls, client_tls):
    path = tmp_path / "file"
    path.write_bytes(b"content" * 20_000)

    async def main():
        server, accepted, client = await connected_pair(server_tls, client_tls)
        loop = asyncio.get_running_loop()
        with path.open("rb") as file:
            with pytest.raises((RuntimeError, asyncio.SendfileNotAvailableError)):
                await loop.sendfile(client.transport, file, fallback=False)
            assert await loop.sendfile(client.transport, file) == 140_000
        client.transport.close()
        await accepted.gone
        assert bytes(accepted.data) == path.read_bytes()
        await shut(server, accepted)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in 3.13")
@pytest.mark.parametrize("name", ["close_clients", "abort_clients"])
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_a_server_ends_its_clients(run, name, secure, server_tls, client_tls):
    async def main():
        contexts = (server_tls, client_tls) if secure else ()
        server, accepted, client = await connected_pair(*contexts)
        server.close()
        assert not accepted.transport.is_closing()
        getattr(server, name)()
        await accepted.gone
        error = await client.gone
        assert error is None or isinstance(error, (ConnectionError, ssl.SSLError))
        await server.wait_closed()

    run(main)
