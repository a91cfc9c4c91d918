"""select(2) watches no descriptor of 1024 or more: a connection's trouble, not the server's."""

import json
import resource
import socket

import pytest

SERVER = """
import asyncio, json, sys
from tests.engine.loops import new_loop

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

async def main():
    loop = asyncio.get_running_loop()
    told = []
    loop.set_exception_handler(lambda loop, context: told.append(str(context["exception"])))
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    print(json.dumps(told))
    server.close()

with asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])) as runner:
    runner.run(main())
"""
CROWD = 1100


@pytest.fixture
def enough_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CROWD + 200:
        pytest.skip(f"the descriptor limit is {hard}: cannot hold {CROWD} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CROWD + 200), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.ours("asyncio tells each connection, and goes on")
def test_one_past_the_limit_is_refused_and_the_others_go_on(program, kind, enough_descriptors):
    with program.started(SERVER) as server:
        address = "127.0.0.1", int(server.stdout.readline())
        crowd = [socket.create_connection(address, timeout=30) for _ in range(CROWD)]
        answered = refused = 0
        for _ in range(2):  # those that are served are so again afterwards
            for client in crowd:
                try:
                    client.sendall(b"hello")
                    answer = client.recv(5)
                except ConnectionError:
                    answer = b""
                answered += answer == b"hello"
                refused += answer == b""
        for client in crowd:
            client.close()
        with socket.create_connection(address, timeout=30) as late:
            late.sendall(b"again")
            assert late.recv(5) == b"again"
        out, err = server.communicate("\n", timeout=30)
    assert server.returncode == 0, err
    assert answered + refused == 2 * CROWD
    if kind != "select":
        assert (refused, json.loads(out)) == (0, [])
        return
    assert answered % 2 == 0
    assert 950 < answered // 2 < 1024
    (told,) = json.loads(out)
    assert "select cannot watch descriptor 1024" in told
    assert "epoll" in told
    assert "NEVERBLOCK_BACKEND=poll" in told
