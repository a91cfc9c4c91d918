"""tornado on our loop: `IOLoop(asyncio_loop=…)`, and inside a loop of ours that runs."""

import asyncio

import pytest

tornado = pytest.importorskip("tornado", reason="tornado is not installed")

from tornado.httpclient import AsyncHTTPClient  # noqa: E402 - after the look whether it is there
from tornado.httpserver import HTTPServer  # noqa: E402
from tornado.ioloop import IOLoop  # noqa: E402
from tornado.testing import bind_unused_port  # noqa: E402
from tornado.web import Application, RequestHandler  # noqa: E402


class Reverse(RequestHandler):
    def post(self):
        self.write(self.request.body[::-1])


async def visit():
    listener, port = bind_unused_port()
    server = HTTPServer(Application([("/reverse", Reverse)]))
    server.add_socket(listener)
    client = AsyncHTTPClient(force_instance=True)
    try:
        url = f"http://127.0.0.1:{port}/reverse"
        answers = await asyncio.gather(
            *(client.fetch(url, method="POST", body=b"x%d" % number) for number in range(30))
        )
        assert [answer.body for answer in answers] == [(b"x%d" % n)[::-1] for n in range(30)]
    finally:
        client.close()
        server.stop()
        await server.close_all_connections()


def test_inside_our_loop(loop_factory):
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(visit())


def test_ioloop_over_our_loop(loop_factory):
    loop = loop_factory()
    io_loop = IOLoop(asyncio_loop=loop, make_current=False)
    try:
        assert io_loop.run_sync(visit, timeout=30) is None
    finally:
        io_loop.close()
    assert loop.is_closed()
