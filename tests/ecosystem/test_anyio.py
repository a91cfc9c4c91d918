"""anyio on our loop: `backend_options={"loop_factory": …}`."""

import signal
import socket
import sys
from os import getpid, kill

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest


@pytest.fixture
def run(loop_factory):
    def run(main):
        return anyio.run(main, backend_options={"loop_factory": loop_factory})

    return run


def test_the_loop_is_ours(run, backend):
    async def main():
        import asyncio

        return asyncio.get_running_loop().backend

    assert run(main) == backend


@pytest.mark.parametrize("wire", ["tcp", "unix"])
def test_an_echo_server(run, wire, tmp_path):
    content = bytes(range(256)) * 2000

    async def echo(stream):
        async with stream:
            async for data in stream:
                await stream.send(data)

    async def main():
        if wire == "tcp":
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
            host, port = listener.extra(anyio.abc.SocketAttribute.local_address)
        else:
            listener = await anyio.create_unix_listener(tmp_path / "socket")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            if wire == "tcp":
                stream = await anyio.connect_tcp(host, port)
            else:
                stream = await anyio.connect_unix(tmp_path / "socket")
            received = bytearray()
            async with stream, anyio.create_task_group() as sending:
                sending.start_soon(stream.send, content)
                while len(received) < len(content):
                    received += await stream.receive()
            assert received == content
            group.cancel_scope.cancel()

    run(main)


def test_datagrams(run):
    async def main():
        one = await anyio.create_udp_socket(family=socket.AF_INET, local_host="127.0.0.1")
        two = await anyio.create_udp_socket(family=socket.AF_INET, local_host="127.0.0.1")
        async with one, two:
            host, port = two.extra(anyio.abc.SocketAttribute.local_address)
            await one.sendto(b"datagram", host, port)
            data, _ = await two.receive()
            assert data == b"datagram"

    run(main)


def test_threads_in_both_directions(run):
    async def main():
        async def number():
            return 7

        def in_thread():
            return anyio.from_thread.run(number) + anyio.from_thread.run_sync(lambda: 1)

        assert await anyio.to_thread.run_sync(in_thread) == 8

    run(main)


def test_a_blocking_portal(loop_factory):
    options = {"loop_factory": loop_factory}
    with anyio.from_thread.start_blocking_portal(backend_options=options) as portal:
        assert portal.call(lambda: "from the loop's thread") == "from the loop's thread"


def test_a_process(run):
    async def main():
        code = "import sys; print(sys.stdin.read()[::-1], end=''); sys.exit(3)"
        result = await anyio.run_process(
            [sys.executable, "-c", code], input=b"abc" * 50_000, check=False
        )
        assert (result.returncode, result.stdout) == (3, b"cba" * 50_000)

    run(main)


def test_a_signal_receiver(run):
    async def main():
        with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
            kill(getpid(), signal.SIGUSR1)
            async for number in signals:
                assert number == signal.SIGUSR1
                return

    run(main)


def test_time_limits_and_cancellation(run):
    async def main():
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.01):
                await anyio.sleep_forever()

    run(main)


def test_waiting_for_a_socket(run):
    async def main():
        one, two = socket.socketpair()
        with one, two:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.wait_readable, one)
                await anyio.wait_writable(two)
                two.send(b"x")

    run(main)
