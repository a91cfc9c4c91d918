"""Clients that come and go, rudely, leave nothing behind in a server apart."""

import random
import select
import socket

import pytest

from tests.engine.wire import pattern, read_exactly, reset

SEQUENCES = 3_000
AT_ONCE = 40


class Client:
    """A raw socket that goes through a random sequence; `step` returns False at its end."""

    LARGE = pattern(100_000)

    def __init__(self, address, rng):
        self.rng = rng
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.connect_ex(address)
        self.steps = rng.randrange(7)

    def step(self):
        if self.steps == 0:
            self.rng.choice([self.sock.close, lambda: reset(self.sock)])()
            return False
        self.steps -= 1
        try:
            match self.rng.randrange(6):
                case 0:
                    self.sock.send(b"a little")
                case 1:
                    self.sock.send(self.LARGE)
                case 2:
                    self.sock.recv(1 << 17)
                case 3:
                    self.sock.shutdown(socket.SHUT_WR)
                case 4:
                    self.sock.shutdown(socket.SHUT_RD)
                case 5:
                    select.select([self.sock], [], [], 0.001)  # time for what is on its way
        except BlockingIOError:
            pass
        except OSError:
            self.steps = 0
        return True


def churn(address, seed, sequences):
    rng = random.Random(seed)
    clients = []
    for _ in range(sequences):
        clients.append(Client(address, rng))
        while len(clients) >= AT_ONCE:
            clients = [client for client in clients if client.step()]
    while clients:
        clients = [client for client in clients if client.step()]


def quiet(server):
    """Wait until the server has seen the end of every connection."""
    for _ in range(2000):
        if server.ask("count") == 0:
            return
        select.select([], [], [], 0.005)
    pytest.fail(f"{server.ask('count')} connections are never over")


@pytest.mark.heavy
@pytest.mark.parametrize("kind_of_server", ["protocol", "streams"])
def test_rude_clients_leave_nothing(echo_server, kind_of_server):
    with echo_server(kind_of_server) as server:
        with socket.create_connection(server.address) as witness:
            churn(server.address, 0, 50)
            witness.sendall(b"alive")
            assert read_exactly(witness, 5) == b"alive"
        quiet(server)
        server.ask("collect")
        before = server.ask("descriptors"), server.ask("tasks")
        churn(server.address, 1, SEQUENCES)
        quiet(server)
        assert (server.ask("descriptors"), server.ask("tasks")) == before
        with socket.create_connection(server.address) as witness:
            witness.sendall(b"alive")
            assert read_exactly(witness, 5) == b"alive"
        quiet(
            server
        )  # asyncio's streams log a handler that a stop cancels (CPython's issue 113538)
        log = server.stop()
    assert "Traceback" not in log
    assert "exception was never retrieved" not in log


def cycle(address, count):
    message = b"x" * 1000
    for _ in range(count):
        with socket.create_connection(address) as sock:
            sock.sendall(message)
            assert read_exactly(sock, 1000) == message
            # A reset leaves no connection waiting out its time, so no port is used up.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0] + [0] * 4))


@pytest.mark.memory
@pytest.mark.heavy
def test_streams_that_end_give_their_memory_back(echo_server):
    with echo_server("streams") as server:
        cycle(server.address, 2_000)
        quiet(server)
        server.ask("collect")
        before, descriptors = server.ask("resident"), server.ask("descriptors")
        cycle(server.address, 5_000)
        quiet(server)
        server.ask("collect")
        grown = server.ask("resident") - before
        assert server.ask("descriptors") == descriptors
        server.stop()
    assert grown < 1_500  # KiB; half a KiB kept of each would be 2,500


@pytest.mark.ours("asyncio 3.11 leaves its transports to the collector")
@pytest.mark.heavy
def test_no_connection_needs_the_collector_to_go(program):
    """Reference counts alone let a protocol and its transport go."""
    done = program("""
import asyncio, gc, socket, sys, weakref
from tests.engine.loops import new_loop

class Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        refs.append(weakref.ref(self))
        refs.append(weakref.ref(transport))

    def connection_lost(self, exc):
        pass

refs = []

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Protocol, "127.0.0.1", 0)
    gc.collect()
    gc.disable()
    for n in range(50):
        sock = socket.create_connection(server.sockets[0].getsockname())
        if n % 2:
            sock.send(b"x" * n)
        while len(refs) < 2 * n + 2:
            await asyncio.sleep(0)
        sock.close()
    for _ in range(1000):
        if not any(ref() for ref in refs):
            break
        await asyncio.sleep(0.001)
    print(sum(ref() is not None for ref in refs))
    server.close()

asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])).run(main())
""")
    assert done.stdout.strip() == "0", done.stderr
