"""What suites demand of descriptors, sockets and signals: the last rows of what they trip over.

Each test runs on asyncio's own loop first: what fails there is a wrong test.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys

import pytest


@pytest.fixture
def wired_pair():
    """Two ends of a socket pair that do not block."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def datagram_sockets():
    """Two UDP sockets on loopback that do not block."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in sockets:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
    yield sockets
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize("direction", ["reader", "writer"])
def test_removing_a_watch_says_whether_there_was_one(loop, wired_pair, direction):
    mine, _ = wired_pair
    add = getattr(loop, f"add_{direction}")
    remove = getattr(loop, f"remove_{direction}")
    assert remove(mine) is False
    assert add(mine, print) is None
    assert remove(mine) is True
    assert remove(mine) is False


@pytest.mark.parametrize("size", [None, 100_000])
def test_sock_sendfile(run, tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1_000_000))

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs, path.open("rb") as file:
            ours.setblocking(False)
            theirs.setblocking(False)
            received = asyncio.create_task(receive_all(loop, theirs))
            sent = await loop.sock_sendfile(ours, file, 10, size)
            ours.close()
            end = None if size is None else 10 + size
            assert await received == path.read_bytes()[10:end]
            assert sent == len(path.read_bytes()[10:end])
            assert file.tell() == 10 + sent

    run(main)


async def receive_all(loop, sock):
    received = bytearray()
    while data := await loop.sock_recv(sock, 65536):
        received += data
    return received


def test_sock_sendto_and_sock_recvfrom(run, datagram_sockets):
    ours, theirs = datagram_sockets

    async def main():
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(loop.sock_recvfrom(theirs, 100))
        await asyncio.sleep(0)
        assert await loop.sock_sendto(ours, b"datagram", theirs.getsockname()) == 8
        assert await waiting == (b"datagram", ours.getsockname())

    run(main)


def test_sock_recvfrom_into(run, datagram_sockets):
    ours, theirs = datagram_sockets
    buffer = bytearray(b"." * 12)

    async def main():
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(loop.sock_recvfrom_into(theirs, buffer))
        await asyncio.sleep(0)
        await loop.sock_sendto(ours, b"datagram", theirs.getsockname())
        assert await waiting == (8, ours.getsockname())
        assert buffer == b"datagram...."
        waiting = asyncio.create_task(loop.sock_recvfrom_into(theirs, buffer, 4))
        await asyncio.sleep(0)
        await loop.sock_sendto(ours, b"cut short", theirs.getsockname())
        assert await waiting == (4, ours.getsockname())

    run(main)


def test_sock_recv_into_and_sock_sendall(run, wired_pair):
    ours, theirs = wired_pair
    content = os.urandom(1_000_000)

    async def main():
        loop = asyncio.get_running_loop()
        sending = asyncio.create_task(loop.sock_sendall(ours, content))
        buffer, received = bytearray(65536), bytearray()
        while len(received) < len(content):
            count = await loop.sock_recv_into(theirs, buffer)
            received += buffer[:count]
        await sending
        assert received == content

    run(main)


def refusing_port():
    """A port that refuses connections: bound, and nobody listens."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.mark.skipif(sys.version_info < (3, 12), reason="all_errors is new in 3.12")
def test_create_connection_tells_all_errors(run):
    async def main():
        loop = asyncio.get_running_loop()
        with refusing_port() as refusing:
            with pytest.raises(ExceptionGroup) as raised:
                await loop.create_connection(
                    asyncio.Protocol, *refusing.getsockname(), all_errors=True
                )
            assert all(isinstance(e, ConnectionRefusedError) for e in raised.value.exceptions)
            with pytest.raises(ConnectionRefusedError):
                await loop.create_connection(asyncio.Protocol, *refusing.getsockname())

    run(main)


def test_a_signal_that_comes_while_the_loop_rests_is_delivered_by_the_next_run(loop):
    got = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, got.set_result, "delivered")
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert loop.run_until_complete(got) == "delivered"
        # Between two runs, too.
        again = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, again.set_result, "delivered again")
        os.kill(os.getpid(), signal.SIGUSR1)
        assert loop.run_until_complete(again) == "delivered again"
    finally:
        assert loop.remove_signal_handler(signal.SIGUSR1) is True
        assert loop.remove_signal_handler(signal.SIGUSR1) is False


def test_sigchld_may_be_handled_by_the_user(run):
    async def main():
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_signal_handler(signal.SIGCHLD, ended.set)
        try:
            with subprocess.Popen(["true"]) as process:
                await ended.wait()
                assert process.wait() == 0
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)

    run(main)


def test_subprocesses_run_beside_the_users_sigchld_handler(run):
    async def main():
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_signal_handler(signal.SIGCHLD, ended.set)
        try:
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", "exit 7", stdout=asyncio.subprocess.PIPE
            )
            assert await process.communicate() == (b"", None)
            assert process.returncode == 7
            await ended.wait()
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)

    run(main)
