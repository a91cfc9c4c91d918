"""What stream transports tell of themselves, and what libraries do to them."""

import asyncio
import contextvars
import gc
import socket
import ssl
import weakref

import pytest

from .wire import Recorder, accept_end, open_end, pair


def test_a_tcp_transport_tells_its_ends(run):
    async def main():
        ours, theirs = pair("tcp")
        names = ours.getsockname(), ours.getpeername()
        a = await open_end(ours, Recorder())
        b = await accept_end(theirs, Recorder())
        info = a.transport.get_extra_info
        assert (info("sockname"), info("peername")) == names
        assert b.transport.get_extra_info("peername") == names[0]
        sock = info("socket")
        assert sock.fileno() == ours.fileno()
        assert sock.getsockname() == names[0]
        assert sock.family == socket.AF_INET
        assert sock.type == socket.SOCK_STREAM
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for unknown in ("pipe", "sslcontext", "ssl_object", "subprocess", "no such thing"):
            assert info(unknown) is None
            assert info(unknown, 7) == 7
        a.transport.close()
        await b.lost()
        assert info("peername") == names[1]

    run(main)


def test_a_unix_transport_tells_its_ends(run, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "socket")
        made = loop.create_future()

        class Server(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                made.set_result(self)

        server = await loop.create_unix_server(Server, path)
        transport, a = await loop.create_unix_connection(Recorder, path)
        b = await made
        assert transport.get_extra_info("peername") == path
        assert b.transport.get_extra_info("sockname") == path
        assert transport.get_extra_info("socket").family == socket.AF_UNIX
        transport.close()
        await b.lost()
        await a.lost()
        server.close()

    run(main)


def test_the_peer_may_be_gone_before_it_is_asked_for(run):
    """getpeername fails on a connection that was reset before it was accepted."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair("tcp")
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        theirs.close()
        await asyncio.sleep(0)
        _, a = await loop.connect_accepted_socket(Recorder, ours)
        a.transport.get_extra_info("peername")
        await a.lost()

    run(main)


def test_transports_are_of_the_standard_classes(run, wire):
    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        transport = a.transport
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.BaseTransport)
        text = repr(transport)
        assert text.startswith("<")
        assert "fd=" in text
        transport.close()
        await a.lost()
        assert "clos" in repr(transport)
        theirs.close()

    run(main)


def test_methods_of_a_transport_may_be_replaced(run, wire):
    """As test suites of web servers do."""

    async def main():
        ours, theirs = pair(wire)
        a = await open_end(ours, Recorder())
        written = []
        original = a.transport.write

        def write(data):
            written.append(data)
            original(data)

        a.transport.write = write
        a.transport.write(b"through")
        a.transport.anything = "else"
        assert a.transport.anything == "else"
        assert await asyncio.to_thread(theirs.recv, 100) == b"through"
        assert written == [b"through"]
        a.transport.close()
        await a.lost()
        theirs.close()

    run(main)


def test_a_server_serves_and_tells(run):
    async def main():
        loop = asyncio.get_running_loop()
        made = asyncio.Queue()

        class Server(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                made.put_nowait(self)

        server = await loop.create_server(Server, "127.0.0.1", 0)
        assert server.is_serving()
        assert server.get_loop() is loop
        address = server.sockets[0].getsockname()
        ends = []
        for _ in range(20):
            transport, client = await loop.create_connection(Recorder, *address)
            served = await made.get()
            transport.write(b"hello")
            assert await served.received(5) == b"hello"
            ends.append((client, served))
        server.close()
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, *address)
        for client, served in ends:
            served.transport.write(b"still")
            assert await client.received(5) == b"still"
            client.transport.close()
            assert await served.lost() is None
            assert await client.lost() is None
        await server.wait_closed()

    run(main)


def test_a_closed_server_lets_its_sockets_go(run):
    async def main():
        loop = asyncio.get_running_loop()
        refs = []
        for _ in range(5):
            server = await loop.create_server(Recorder, "127.0.0.1", 0)
            refs += [weakref.ref(sock) for sock in server._sockets]
            server.close()
            await server.wait_closed()
            del server
        await asyncio.sleep(0)
        gc.collect()
        return [ref() for ref in refs]

    assert run(main) == [None] * 5


def test_a_server_that_starts_later(run):
    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Recorder, "127.0.0.1", 0, start_serving=False)
        assert not server.is_serving()
        await server.start_serving()
        transport, a = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        transport.close()
        await a.lost()
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving()

    run(main)


def test_connecting_fails_as_it_should(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError):
                await loop.create_connection(Recorder, *unused.getsockname())
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(Recorder, "/nonexistent/socket")
        with pytest.raises(ValueError, match="no sock specified"):
            await loop.create_connection(Recorder)
        ours, theirs = pair("tcp")
        with pytest.raises(ValueError, match="host/port and sock"):
            await loop.create_connection(Recorder, "127.0.0.1", 1, sock=ours)
        with pytest.raises(ValueError, match="server_hostname"):
            await loop.create_connection(Recorder, sock=ours, server_hostname="x")
        ours.close()
        theirs.close()

    run(main)


def test_connecting_may_be_cancelled(run, descriptors):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            address = full.getsockname()
            held = [socket.create_connection(address)]
            for _ in range(3):  # until the queue of the listener is full and connecting waits
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(address)
                held.append(sock)
            before = descriptors().keys()
            tasks = [
                asyncio.create_task(loop.create_connection(Recorder, *address)) for _ in range(5)
            ]
            for _ in range(5):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results), results
            del results, tasks
            assert descriptors().keys() == before
            for sock in held:
                sock.close()

    run(main)


def test_a_factory_that_raises(run, trouble, wire):
    def factory():
        raise ValueError("no protocol for you")

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair(wire)
        with pytest.raises(ValueError, match="no protocol"):
            await loop.create_connection(factory, sock=ours)
        with pytest.raises(ValueError, match="no protocol"):
            await loop.connect_accepted_socket(factory, theirs)
        ours.close()
        theirs.close()

    run(main)
    for context in trouble.take():
        assert "no protocol" in str(context["exception"])


@pytest.mark.ours("asyncio leaves the accepted socket to the garbage collector")
def test_a_factory_of_a_server_that_raises(run, trouble):
    def factory():
        raise ValueError("no protocol for you")

    async def main():
        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
        for _ in range(3):
            with socket.create_connection(server.sockets[0].getsockname()) as sock:
                sock.settimeout(20)
                assert await asyncio.to_thread(sock.recv, 1) == b""
        server.close()

    run(main, debug=True)  # asyncio, and so ours, tells of it in debug mode alone
    assert [str(context["exception"]) for context in trouble.take()] == ["no protocol for you"] * 3


def test_what_a_factory_of_a_server_sets_is_of_its_connection_alone(run):
    client_of = contextvars.ContextVar("client_of", default=None)

    async def main():
        loop = asyncio.get_running_loop()
        found = []

        def factory():
            before = client_of.get()
            client_of.set(object())
            made = client_of.get()
            return Recorder(
                data_received=lambda *_: found.append((before, client_of.get() is made))
            )

        server = await loop.create_server(factory, "127.0.0.1", 0)
        for _ in range(3):
            _, client = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
            client.transport.write(b"x")
            client.transport.write_eof()
            await client.lost()
        assert found == [(None, True)] * 3
        server.close()

    run(main)


def test_a_plain_context_is_no_tls(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(ValueError, match="ssl_handshake_timeout"):
            await loop.create_connection(Recorder, "127.0.0.1", 1, ssl_handshake_timeout=1)
        with pytest.raises(TypeError):
            await loop.create_server(Recorder, "127.0.0.1", 0, ssl=True)
        assert ssl.OPENSSL_VERSION

    run(main)
