"""Real packages in a strict loop: what they do to start and to serve is no blocking call."""

import asyncio
import contextlib
import os
import shutil
import signal

import aiohttp
import aiohttp.web
import httpx
import pytest
import uvicorn
from redis import asyncio as redis

import neverblock

from .processes import PATIENCE, python, started


def strict(main):
    return neverblock.run(main, watch=neverblock.Guard())


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def test_uvicorn_and_httpx():
    class Started(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            self.up.set()

        @contextlib.contextmanager
        def capture_signals(self):
            yield

    async def main():
        server = Started(uvicorn.Config(application, port=0, lifespan="on"))
        server.up = asyncio.Event()
        running = asyncio.create_task(server.serve())
        await server.up.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://localhost:{port}/")).text == "hello"
        server.should_exit = True
        await running

    strict(main())


def test_aiohttp_client_and_server():
    async def hello(request):
        return aiohttp.web.json_response({"path": request.path})

    async def main():
        app = aiohttp.web.Application()
        app.router.add_get("/{name}", hello)
        runner = aiohttp.web.AppRunner(app)
        await runner.setup()
        site = aiohttp.web.TCPSite(runner, "localhost", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://localhost:{port}/x") as response,
        ):
            assert await response.json() == {"path": "/x"}
        await runner.cleanup()

    strict(main())


@pytest.mark.skipif(
    shutil.which("redis-server") is None,
    reason="redis-server is not installed (make system-packages)",
)
def test_redis_py(tmp_path):
    path = tmp_path / "socket"
    options = ("--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no")

    async def main():
        async with redis.Redis(unix_socket_path=str(path)) as connection:
            value = os.urandom(100_000)
            assert await connection.set("key", value)
            assert await connection.get("key") == value

    with started("redis-server", *options, until="eady to accept connections"):
        strict(main())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_uvicorn_on_another_loop(loop):
    """By its command line, under `neverblock watch`."""
    command = python(
        *("-m", "neverblock", "watch", "--strict", "-m", "uvicorn"),
        *("starlette_app:app", "--port", "0", "--loop", loop),
    )
    with started(*command, until=r"Uvicorn running on (http://[\d.:]+)") as (process, address):
        with httpx.Client(base_url=address, timeout=PATIENCE) as client:
            assert client.get("/count", params={"to": 3}).text.split() == ["0", "1", "2"]
            assert client.get("/thread").text == "from a thread"
            assert client.get("/block").status_code == 500
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
    assert "application stops" in output
    assert output.count("BlockingCallError: time.sleep blocks the event loop, at ") == 1
    assert "starlette_app.py" in output
