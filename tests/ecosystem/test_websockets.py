"""websockets' server and client on our loop."""

import asyncio
import os

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedOK


async def echo(connection):
    async for message in connection:
        await connection.send(message)


@pytest.fixture
def visit(loop_factory):
    """Run `client(address)` beside an echo server, both on one loop of ours."""

    async def main(client):
        async with serve(echo, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            await client(f"ws://{host}:{port}")

    def visit(client):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main(client))

    return visit


def test_text_and_bytes_come_back(visit):
    async def client(address):
        async with connect(address) as connection:
            for message in ("text", "", b"bytes", os.urandom(900_000), "ü" * 100_000):
                await connection.send(message)
                assert await connection.recv() == message

    visit(client)


def test_a_ping_is_answered(visit):
    async def client(address):
        async with connect(address) as connection:
            assert await (await connection.ping()) >= 0

    visit(client)


def test_many_connections_at_once(visit):
    async def client(address):
        async def one(number):
            async with connect(address) as connection:
                for turn in range(10):
                    await connection.send(f"{number}.{turn}")
                    assert await connection.recv() == f"{number}.{turn}"

        await asyncio.gather(*(one(number) for number in range(50)))

    visit(client)


def test_the_closing_handshake(visit):
    async def client(address):
        async with connect(address) as connection:
            await connection.close(1000, "enough")
            with pytest.raises(ConnectionClosedOK):
                await connection.recv()
            assert (connection.close_code, connection.close_reason) == (1000, "enough")

    visit(client)


def test_a_server_that_closes_ends_its_connections(loop_factory):
    async def main():
        server = await serve(echo, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with connect(f"ws://{host}:{port}") as connection:
            server.close()
            await server.wait_closed()
            await connection.wait_closed()
            assert connection.close_code == 1001

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
