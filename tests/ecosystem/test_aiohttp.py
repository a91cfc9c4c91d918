"""aiohttp's server and client on our loop."""

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import httpx
import pytest
from aiohttp import web

from .processes import PATIENCE, python, started

TIMEOUT = aiohttp.ClientTimeout(PATIENCE)
FILE = web.AppKey("FILE", Path)


async def reverse(request):
    return web.Response(body=(await request.read())[::-1])


async def chunks(request):
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    async for chunk in request.content.iter_chunked(1024):
        await response.write(chunk)
    return response


async def file(request):
    return web.FileResponse(request.app[FILE])


async def echo(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


@pytest.fixture
def visit(loop_factory):
    """Run `client(session)` beside a server, both on one loop of ours."""

    async def main(client, path):
        app = web.Application(client_max_size=1 << 24)
        app[FILE] = path
        app.router.add_post("/reverse", reverse)
        app.router.add_post("/chunks", chunks)
        app.router.add_get("/file", file)
        app.router.add_get("/echo", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0]
            async with aiohttp.ClientSession(f"http://{host}:{port}", timeout=TIMEOUT) as session:
                await client(session)
        finally:
            await runner.cleanup()

    def visit(client, path=Path(os.devnull)):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main(client, path))

    return visit


def test_requests_with_bodies(visit):
    async def client(session):
        for size in (0, 1, 65536, 1_000_000):
            body = os.urandom(size)
            async with session.post("/reverse", data=body) as answer:
                assert await answer.read() == body[::-1]

    visit(client)


def test_a_stream_in_both_directions(visit):
    parts = [os.urandom(5000) for _ in range(100)]

    async def upload():
        for part in parts:
            yield part
            await asyncio.sleep(0)

    async def client(session):
        async with session.post("/chunks", data=upload()) as answer:
            assert await answer.read() == b"".join(parts)

    visit(client)


def test_many_requests_at_once(visit):
    async def client(session):
        async def one(number):
            async with session.post("/reverse", data=f"number {number}") as answer:
                assert await answer.text() == f"number {number}"[::-1]

        await asyncio.gather(*(one(number) for number in range(200)))

    visit(client)


def test_a_file_by_sendfile(visit, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(2_000_000))

    async def client(session):
        async with session.get("/file") as answer:
            assert await answer.read() == path.read_bytes()
        async with session.get("/file", headers={"Range": "bytes=1000-499999"}) as answer:
            assert answer.status == 206
            assert await answer.read() == path.read_bytes()[1000:500_000]

    visit(client, path)


def test_a_websocket(visit):
    async def client(session):
        async with session.ws_connect("/echo") as socket:
            for message in ("text", "x" * 200_000):
                await socket.send_str(message)
                assert await socket.receive_str() == message
            await socket.send_bytes(b"bytes")
            assert await socket.receive_bytes() == b"bytes"
        assert socket.close_code == aiohttp.WSCloseCode.OK

    visit(client)


def test_a_client_that_hangs_up_early(visit):
    async def client(session):
        answer = await session.post("/chunks", data=b"x" * 1_000_000)
        answer.close()
        async with session.post("/reverse", data=b"still there") as answer:
            assert await answer.read() == b"ereht llits"

    visit(client)


def test_run_app_takes_our_loop(backend):
    running = r"Running on (http://[\d.:]+)"
    command = python("-u", "aiohttp_app.py")
    with started(*command, until=running, NEVERBLOCK_BACKEND=backend) as (process, address):
        assert httpx.get(address, timeout=PATIENCE).text == "hello"
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        assert "Traceback" not in output
