"""sock_recv and its family: on sockets that stay the user's own."""

import asyncio
import socket

import pytest

from .wire import pair, pattern, read_exactly, small_buffers


@pytest.fixture
def ends(wire):
    ours, theirs = pair(wire)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_send_and_receive(run, ends):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = ends
        small_buffers(ours, theirs)
        data = pattern(1_000_000)
        reading = asyncio.create_task(asyncio.to_thread(read_exactly, theirs, len(data)))
        assert await loop.sock_sendall(ours, data) is None
        assert await reading == data
        receiving = asyncio.create_task(loop.sock_recv(ours, 100))
        await asyncio.sleep(0)
        theirs.sendall(b"hello")
        assert await receiving == b"hello"
        buffer = bytearray(100)
        theirs.sendall(b"again")
        assert await loop.sock_recv_into(ours, buffer) == 5
        assert buffer[:5] == b"again"
        theirs.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(ours, 100) == b""

    run(main)


def test_both_directions_at_once(run, ends):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = ends
        small_buffers(ours, theirs)
        theirs.setblocking(False)
        data = pattern(500_000)

        async def receive(sock):
            got = bytearray()
            while len(got) < len(data):
                got += await loop.sock_recv(sock, 10_000)
            return got

        results = await asyncio.gather(
            loop.sock_sendall(ours, data),
            loop.sock_sendall(theirs, data),
            receive(ours),
            receive(theirs),
        )
        assert results == [None, None, data, data]

    run(main)


def test_a_receive_that_was_cancelled_takes_nothing(run, ends):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = ends
        for _ in range(20):
            receiving = asyncio.create_task(loop.sock_recv(ours, 100))
            await asyncio.sleep(0)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert loop.remove_reader(ours) is False
        theirs.sendall(b"for the next")
        assert await loop.sock_recv(ours, 100) == b"for the next"

    run(main)


def test_a_receive_cancelled_as_its_data_comes(run, ends):
    """Cancelled in the very turn that finds it readable: what came is not lost."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = ends
        receiving = asyncio.create_task(loop.sock_recv(ours, 100))
        await asyncio.sleep(0)
        theirs.sendall(b"data")
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        assert await loop.sock_recv(ours, 100) == b"data"

    run(main)


def test_a_time_limit_on_a_receive(run, ends):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = ends
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(ours, 10), 0.01)
        theirs.sendall(b"late")
        assert await loop.sock_recv(ours, 10) == b"late"

    run(main)


def test_accept_and_connect(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            accepting = asyncio.create_task(loop.sock_accept(listener))
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, listener.getsockname())
                served, address = await accepting
                with served:
                    assert address == client.getsockname()
                    assert served.gettimeout() == 0
                    await loop.sock_sendall(served, b"welcome")
                    assert await loop.sock_recv(client, 100) == b"welcome"

    run(main)


def test_connect_fails(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket() as unused, socket.socket() as client:
            unused.bind(("127.0.0.1", 0))
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(client, unused.getsockname())

    run(main)


def test_a_reset_is_raised(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair("tcp")
        ours.setblocking(False)
        receiving = asyncio.create_task(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        theirs.close()
        with pytest.raises(ConnectionResetError):
            await receiving
        ours.close()

    run(main)


def test_a_blocking_socket_is_refused_in_debug_mode(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair("tcp")
        with pytest.raises(ValueError, match="must be non-blocking"):
            await loop.sock_recv(ours, 10)
        with pytest.raises(ValueError, match="must be non-blocking"):
            await loop.sock_sendall(ours, b"x")
        ours.close()
        theirs.close()

    run(main, debug=True)
