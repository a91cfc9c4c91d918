"""Datagrams: echo, errors, sizes, and the socket operations that carry addresses."""

import asyncio
import socket
import sys

import pytest


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer=None):
        self.answer = answer
        self.queue = asyncio.Queue()
        self.errors = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.queue.put_nowait((data, addr))
        if self.answer:
            self.transport.sendto(self.answer(data), addr)

    def error_received(self, exc):
        self.errors.put_nowait(exc)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def endpoint(answer=None, **kwargs):
    _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Datagrams(answer), **kwargs
    )
    return protocol


def test_echo(run):
    async def main():
        server = await endpoint(bytes.upper, local_addr=("127.0.0.1", 0))
        address = server.transport.get_extra_info("sockname")
        client = await endpoint(remote_addr=address)
        assert client.transport.get_extra_info("peername") == address
        for data in (b"a", b"x" * 1000, b"y" * 60_000, b"", bytearray(b"b"), memoryview(b"c")):
            if not data and sys.version_info < (3, 13):  # asyncio did not send empty ones
                continue
            client.transport.sendto(data)
            assert await client.queue.get() == (bytes(data).upper(), address)
        client.transport.close()
        assert await client.lost is None
        server.transport.abort()
        assert await server.lost is None

    run(main)


def test_each_datagram_is_one(run):
    async def main():
        server = await endpoint(local_addr=("127.0.0.1", 0))
        client = await endpoint(remote_addr=server.transport.get_extra_info("sockname"))
        for start in range(0, 500, 50):
            for n in range(start, start + 50):
                client.transport.sendto(b"%d" % n)
            for n in range(start, start + 50):
                data, _ = await server.queue.get()
                assert data == b"%d" % n
        client.transport.close()
        server.transport.close()
        await server.lost

    run(main)


def test_a_refusal_is_an_error_received(run):
    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
            unused.bind(("127.0.0.1", 0))
            address = unused.getsockname()
        client = await endpoint(remote_addr=address)
        client.transport.sendto(b"anybody?")
        assert isinstance(await client.errors.get(), ConnectionRefusedError)
        assert not client.lost.done()
        client.transport.close()
        await client.lost

    run(main)


def test_misuse(run):
    async def main():
        client = await endpoint(remote_addr=("127.0.0.1", 9))
        with pytest.raises(TypeError):
            client.transport.sendto("text")
        with pytest.raises(ValueError, match="Invalid address"):
            client.transport.sendto(b"x", ("127.0.0.1", 10))
        client.transport.close()
        client.transport.close()
        assert client.transport.is_closing()
        await client.lost

    run(main)


def test_unix_datagrams(run, tmp_path):
    async def main():
        path = str(tmp_path / "datagrams")
        server = await endpoint(local_addr=path, family=socket.AF_UNIX)
        client = await endpoint(remote_addr=path, family=socket.AF_UNIX)
        client.transport.sendto(b"hello")
        data, _ = await server.queue.get()
        assert data == b"hello"
        client.transport.close()
        server.transport.close()
        await server.lost

    run(main)


def test_sock_sendto_and_recvfrom(run):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (a, b):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        with a, b:
            receiving = asyncio.create_task(loop.sock_recvfrom(b, 100))
            await asyncio.sleep(0)
            assert await loop.sock_sendto(a, b"hello", b.getsockname()) == 5
            assert await receiving == (b"hello", a.getsockname())
            buffer = bytearray(10)
            await loop.sock_sendto(b, b"world", a.getsockname())
            assert await loop.sock_recvfrom_into(a, buffer) == (5, b.getsockname())
            assert buffer[:5] == b"world"

    run(main)
