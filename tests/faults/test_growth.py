"""What goes on for long does not make a process grow. All of a million connections: make soak."""

import pytest

CYCLES = """
import asyncio, resource, sys
from tests.engine.loops import new_loop

CYCLES, AT_ONCE = 20_000, 50

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

class Client(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.lost = asyncio.get_running_loop().create_future()
        transport.write(b"x" * 1024)
    def data_received(self, data):
        self.transport.close()
    def connection_lost(self, error):
        self.lost.set_result(error)

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)
    address = server.sockets[0].getsockname()
    async def clients(count):
        for _ in range(count):
            _, client = await loop.create_connection(Client, *address)
            await client.lost
    await asyncio.gather(*(clients(CYCLES // 4 // AT_ONCE) for _ in range(AT_ONCE)))
    settled = resident()
    await asyncio.gather(*(clients(CYCLES // 4 * 3 // AT_ONCE) for _ in range(AT_ONCE)))
    print(resident() - settled)
    server.close()

with asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])) as runner:
    runner.run(main())
"""


@pytest.mark.memory
@pytest.mark.heavy
def test_twenty_thousand_cycles_do_not_grow(program):
    done = program(CYCLES, timeout=110)
    assert done.returncode == 0, done.stderr
    # 64 bytes lost in each of 15,000 would be a megabyte.
    assert int(done.stdout) < 1 << 20


BACKLOG = """
import asyncio, resource, socket, sys
from tests.engine.loops import new_loop

PIECE, BACKLOG, SETTLED, ALL = 64, 1 << 19, 1 << 23, 1 << 26

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def pieces(size):
    return [bytes(PIECE) for _ in range(size // PIECE)]

async def main():
    near, far = socket.socketpair()
    far.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    transport.writelines(pieces(BACKLOG))
    read = owed = settled = 0
    while read < ALL:
        try:
            count = len(far.recv(1 << 16))
        except BlockingIOError:
            count = 0
        read += count
        owed += count
        transport.writelines(pieces(owed))
        owed %= PIECE
        assert transport.get_write_buffer_size()
        if read >= SETTLED and not settled:
            settled = resident()
        await asyncio.sleep(0)
    print(resident() - settled)
    transport.abort()
    far.close()

with asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])) as runner:
    runner.run(main())
"""


@pytest.mark.memory
@pytest.mark.heavy
def test_a_backlog_that_never_empties_keeps_nothing_that_was_sent(program):
    done = program(BACKLOG, timeout=110)
    assert done.returncode == 0, done.stderr
    # A million pieces: the places alone, were they kept, would be eight megabytes.
    assert int(done.stdout) < 4 << 20
