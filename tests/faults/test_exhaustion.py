"""Out of descriptors: accepting pauses, says so once, and goes on by itself."""

import json
import socket

SERVER = """
import asyncio, json, logging, resource, sys
from tests.engine.loops import new_loop

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

async def main():
    loop = asyncio.get_running_loop()
    told = []
    loop.set_exception_handler(lambda loop, context: told.append(context["message"]))
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=256)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    print(json.dumps(told))
    server.close()

with asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])) as runner:
    runner.run(main())
"""


def test_accepting_pauses_and_recovers(program, kind):
    with program.started(SERVER) as server:
        address = "127.0.0.1", int(server.stdout.readline())
        clients = [socket.create_connection(address, timeout=30) for _ in range(60)]
        for client in clients:
            client.sendall(b"hello")
        # The first are served; the rest wait in the listen queue.
        served = []
        for client in clients[:20]:
            assert client.recv(5) == b"hello"
            served.append(client)
        for client in served:
            client.close()
        # Descriptors are free again: all the others get their turn, with no one's help.
        for client in clients[20:40]:
            assert client.recv(5) == b"hello"
            client.close()
        for client in clients[40:]:
            assert client.recv(5) == b"hello"
            client.close()
        out, err = server.communicate("\n", timeout=30)
    assert server.returncode == 0, err
    told = json.loads(out)
    assert told
    assert all("out of system resource" in message for message in told)
    if kind != "asyncio":  # which says so each second, and for each connection
        assert 1 <= len(told) <= 3
