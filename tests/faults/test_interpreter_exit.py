"""A process that ends with a loop open, running or half closed ends as it would without one."""

import pytest

BEGIN = """
import asyncio, atexit, os, socket, sys, threading, warnings
from tests.engine.loops import new_loop
warnings.simplefilter("ignore")
loop = new_loop(sys.argv[1])

class Keep(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

async def connect():
    server = await loop.create_server(Keep, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Keep, *server.sockets[0].getsockname())
    transport.write(b"x" * 100)
    return server, transport
"""

ENDS = {
    "loop never run": "loop.call_soon(print); loop.call_later(100, print)",
    "transports open": "kept = loop.run_until_complete(connect())",
    "loop closed, transports open": "kept = loop.run_until_complete(connect()); loop.close()",
    "pipes open": """
r, w = os.pipe()
kept = loop.run_until_complete(loop.connect_read_pipe(Keep, open(r, "rb", 0)))
more = loop.run_until_complete(loop.connect_write_pipe(Keep, open(w, "wb", 0)))
""",
    "in a cycle with builtins": """
import builtins
builtins.kept = loop.run_until_complete(connect())
builtins.loop = loop
""",
    "used at exit": """
kept = loop.run_until_complete(connect())
atexit.register(lambda: kept[1].close())
atexit.register(lambda: loop.call_soon(int))
""",
    "running in a daemon thread": """
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(connect(), loop).result()
""",
    "exit from a callback": "loop.call_soon(sys.exit, 0); loop.run_forever()",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_process_ends_in_order(program, end):
    done = program(BEGIN + ENDS[end] + "\nprint('reached', flush=True)", timeout=50)
    assert done.returncode == 0, done.stderr
    assert "Fatal" not in done.stderr
    assert "Traceback" not in done.stderr
    if end != "exit from a callback":
        assert done.stdout == "reached\n"
