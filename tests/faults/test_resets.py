"""A reset by the peer in every state of a connection: one loss, nothing left, the others go on."""

import asyncio
import contextlib
import socket
import ssl

import pytest
import trustme

from tests.engine.wire import Recorder, open_end, pair, pattern, read_exactly, reset


@pytest.fixture
def listening(run):
    """Run a test against a server of Recorders; a bystander must be served before and after."""

    def listening(test, **hooks):
        async def main():
            loop = asyncio.get_running_loop()
            served = asyncio.Queue()

            def made(protocol, *args):
                served.put_nowait(protocol)

            def factory():
                return Recorder(connection_made=made, **hooks)

            server = await loop.create_server(factory, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            bystander = socket.create_connection(address)
            bystander_served = await served.get()
            await test(address, served)
            bystander.sendall(b"and I?")
            await bystander_served.received(6)
            bystander.close()
            await bystander_served.lost()
            server.close()

        run(main)

    return listening


def test_before_it_is_accepted(listening):
    async def test(address, served):
        for _ in range(50):
            reset(socket.create_connection(address))
        sock = socket.create_connection(address)
        for _ in range(51):  # each is made and lost, or was never accepted
            protocol = await served.get()
            if protocol.transport.get_extra_info("peername") == sock.getsockname():
                break
            assert isinstance(await protocol.lost(), (ConnectionResetError, type(None)))
        sock.close()
        await protocol.lost()

    listening(test)


def test_idle(listening):
    async def test(address, served):
        sock = socket.create_connection(address)
        protocol = await served.get()
        reset(sock)
        assert isinstance(await protocol.lost(), ConnectionResetError)
        assert protocol.calls == ["connection_made", "connection_lost"]

    listening(test)


def test_with_data_on_its_way_in(listening):
    """The kernel drops what was not read: the loss is told, the data may be lost with it."""

    async def test(address, served):
        sock = socket.create_connection(address)
        protocol = await served.get()
        sock.sendall(b"last words")
        reset(sock)
        assert isinstance(await protocol.lost(), (ConnectionResetError, type(None)))
        assert protocol.data in (b"", b"last words")

    listening(test)


@pytest.mark.parametrize("size", [1000, 10_000_000])
def test_while_the_server_writes(listening, size):
    async def test(address, served):
        sock = socket.create_connection(address)
        protocol = await served.get()
        protocol.transport.write(bytes(size))
        await asyncio.sleep(0)
        reset(sock)
        assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))
        assert protocol.transport.get_write_buffer_size() == 0

    listening(test)


def test_in_the_turn_of_a_write(listening):
    """Written, then reset, then sent at the end of the turn."""

    async def test(address, served):
        sock = socket.create_connection(address)
        protocol = await served.get()
        reset(sock)
        for n in range(10):
            protocol.transport.write(b"%d" % n)
        protocol.transport.writelines([b"x", b"y" * 200_000])
        protocol.transport.write(bytearray(200_000))
        assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))

    listening(test)


def test_while_reading_is_paused(listening):
    async def test(address, served):
        sock = socket.create_connection(address)
        protocol = await served.get()
        protocol.transport.pause_reading()
        sock.sendall(bytes(1000))
        reset(sock)
        await asyncio.sleep(0.01)
        protocol.transport.resume_reading()
        assert isinstance(await protocol.lost(), (ConnectionResetError, type(None)))

    listening(test)


def test_while_both_directions_are_paused(listening):
    async def test(address, served):
        sock = socket.create_connection(address)
        protocol = await served.get()
        protocol.transport.pause_reading()
        while not protocol.paused:
            protocol.transport.write(bytes(100_000))
        await asyncio.sleep(0)
        reset(sock)
        assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))

    listening(test)


def test_after_the_servers_half_close(listening):
    async def test(address, served):
        sock = socket.create_connection(address)
        protocol = await served.get()
        protocol.transport.write_eof()
        assert await asyncio.to_thread(sock.recv, 1) == b""
        reset(sock)
        assert isinstance(await protocol.lost(), (ConnectionResetError, type(None)))

    listening(test)


def test_before_the_servers_half_close(listening):
    """shutdown(2) of a connection that was reset fails, and that is all it does."""

    async def test(address, served):
        sock = socket.create_connection(address)
        protocol = await served.get()
        reset(sock)
        with contextlib.suppress(OSError):  # asyncio raises it to the caller
            protocol.transport.write_eof()
        assert isinstance(await protocol.lost(), (OSError, type(None)))

    listening(test)


def test_after_the_clients_half_close(listening):
    async def test(address, served):
        sock = socket.create_connection(address)
        protocol = await served.get()
        protocol.keep_open = True
        sock.shutdown(socket.SHUT_WR)
        await protocol.ended()
        while not protocol.paused:
            protocol.transport.write(bytes(100_000))
        reset(sock)
        assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))

    listening(test)


def test_while_the_server_closes_with_bytes_unsent(listening):
    async def test(address, served):
        sock = socket.create_connection(address)
        protocol = await served.get()
        protocol.transport.write(bytes(10_000_000))
        protocol.transport.close()
        await asyncio.sleep(0)
        assert not protocol.lost_with
        reset(sock)
        await protocol.lost()

    listening(test)


def test_within_a_callback(listening):
    """The peer is gone by the time data_received writes, pauses and resumes."""

    async def test(address, served):
        sock = socket.create_connection(address)
        protocol = await served.get()

        def act(protocol, data):
            reset(sock)
            protocol.transport.write(bytes(1_000_000))
            protocol.transport.pause_reading()
            protocol.transport.resume_reading()

        protocol.hooks["data_received"] = act
        sock.sendall(b"x")
        assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))

    listening(test)


def test_of_many_in_one_turn(listening):
    async def test(address, served):
        socks = [socket.create_connection(address) for _ in range(100)]
        protocols = [await served.get() for _ in socks]
        for protocol in protocols[::2]:
            protocol.transport.write(bytes(100_000))
        for sock in socks:
            reset(sock)
        for protocol in protocols:
            assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))

    listening(test)


def test_of_a_client_that_has_just_connected(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for _ in range(20):
                connecting = asyncio.create_task(
                    loop.create_connection(Recorder, *listener.getsockname())
                )
                accepted, _ = await asyncio.to_thread(listener.accept)
                reset(accepted)
                try:
                    _, protocol = await connecting
                except ConnectionError:
                    continue
                assert isinstance(await protocol.lost(), ConnectionResetError)

    run(main)


def test_while_a_file_is_on_its_way(run, tmp_path):
    path = tmp_path / "content"
    path.write_bytes(pattern(5_000_000))

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair("tcp")
        a = await open_end(ours, Recorder())
        with path.open("rb") as file:
            sending = asyncio.create_task(loop.sendfile(a.transport, file))
            await asyncio.to_thread(read_exactly, theirs, 100_000)
            reset(theirs)
            with pytest.raises(ConnectionError):
                await sending
        await a.lost()

    run(main)


@pytest.mark.parametrize("moment", ["handshake", "idle", "data", "closing"])
def test_under_tls(run, trouble, moment):
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    def peer(sock):
        if moment == "handshake":
            sock.recv(10)
            return reset(sock)
        tls = server_context.wrap_socket(sock, server_side=True)
        if moment == "data":
            tls.sendall(bytes(1_000_000))
            tls.recv(1)
        if moment == "closing":
            tls.recv(1)
            tls.sendall(b"x")
            tls.recv(1)
        return reset(socket.socket(fileno=tls.detach()))

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair("tcp")
        peering = asyncio.create_task(asyncio.to_thread(peer, theirs))
        try:
            transport, a = await loop.create_connection(
                Recorder, sock=ours, ssl=client_context, server_hostname="localhost"
            )
        except (ConnectionError, ssl.SSLError):
            assert moment == "handshake"
        else:
            if moment in ("data", "closing"):
                transport.write(b"!")
            if moment == "closing":
                await a.received(1)
                transport.close()
            assert isinstance(await a.lost(), (OSError, type(None)))
        await peering

    with contextlib.suppress(ConnectionResetError):
        run(main)
    trouble.take()
