"""redis-py's asyncio client on our loop, against a real redis-server."""

import asyncio
import os
import shutil

import pytest
from redis import asyncio as redis

from .processes import started

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None,
    reason="redis-server is not installed (make system-packages)",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The path of a server's socket; it keeps nothing on disk."""
    path = tmp_path_factory.mktemp("redis") / "socket"
    options = ("--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no")
    with started("redis-server", *options, until="eady to accept connections"):
        yield path


@pytest.fixture
def visit(loop_factory, server):
    """Run `client(connection)` on a loop of ours, on an empty data base."""

    async def main(client):
        async with redis.Redis(unix_socket_path=str(server)) as connection:
            await connection.flushdb()
            await client(connection)

    def visit(client):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main(client))

    return visit


def test_values_come_back(visit):
    async def client(connection):
        assert await connection.ping()
        for size in (0, 1, 65536, 2_000_000):
            value = os.urandom(size)
            assert await connection.set("key", value)
            assert await connection.get("key") == value
        assert await connection.incr("counter") == 1
        assert await connection.mget("nothing", "counter") == [None, b"1"]

    visit(client)


def test_a_pipeline(visit):
    async def client(connection):
        async with connection.pipeline(transaction=False) as pipeline:
            for _ in range(2000):
                pipeline.incr("counter")
            assert await pipeline.execute() == list(range(1, 2001))

    visit(client)


def test_many_connections_at_once(visit):
    async def client(connection):
        await asyncio.gather(*(connection.incr("counter") for _ in range(90)))
        assert await connection.get("counter") == b"90"

    visit(client)


def test_a_blocking_command_waits_for_another_client(visit):
    async def client(connection):
        waiting = asyncio.create_task(connection.blpop("list", timeout=30))
        while (await connection.info("clients"))["blocked_clients"] == 0:
            await asyncio.sleep(0)
        await connection.rpush("list", "element")
        assert await waiting == (b"list", b"element")

    visit(client)


def test_publish_and_subscribe(visit):
    async def client(connection):
        async with connection.pubsub() as subscription:
            await subscription.subscribe("channel")
            first = await subscription.get_message(timeout=30)
            assert first["type"] == "subscribe"
            assert await connection.publish("channel", "message") == 1
            message = await subscription.get_message(timeout=30)
            assert (message["type"], message["data"]) == ("message", b"message")

    visit(client)
