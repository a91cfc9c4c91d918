"""Out of descriptors in other places than accept, and what comes after."""

import pytest

PRELUDE = """
import asyncio, contextlib, errno, os, resource, socket, sys
from tests.engine.loops import new_loop

def scarce():
    # From now on not one descriptor is to be had.
    used = {int(number) for number in os.listdir("/proc/self/fd")}
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(used) + 20, HARD))
    with contextlib.suppress(OSError):
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    return held

def plenty(held):
    for number in held:
        os.close(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, HARD))

HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

async def works():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"works")
    assert await reader.readexactly(5) == b"works"
    writer.close()
    await writer.wait_closed()
    server.close()
    await asyncio.sleep(0.001)

def run(main):
    told = []
    async def telling():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        await main()
    with asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])) as runner:
        runner.run(telling())
    return told
"""


def check(program, source):
    done = program(PRELUDE + source, interpreter=("-X", "dev", "-W", "error"))
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stdout.split() == ["done"], done.stdout


@pytest.mark.ours("asyncio leaves descriptors to a half-made loop that cannot be closed")
def test_a_loop_that_cannot_be_made(program):
    check(
        program,
        """
import warnings
warnings.simplefilter("ignore", ResourceWarning)  # half a loop was never closed
from neverblock import multiplexers
multiplexers.available()  # they are imported
new_loop(sys.argv[1]).close()
before = set(os.listdir("/dev/fd"))
made = []
for spare in range(12):  # fails at each of the descriptors that it needs, then not at all
    held = scarce()
    for number in held[:spare]:
        os.close(number)
    try:
        loop = new_loop(sys.argv[1])
    except (OSError, ValueError) as error:
        assert "Too many open files" in str(error)
        made.append(False)
    else:
        loop.close()
        made.append(True)
    plenty(held[spare:])
    assert set(os.listdir("/dev/fd")) == before
assert made == sorted(made) and not made[0] and made[-1], made
run(works)
print("done")
""",
    )


def test_accepting_stays_paused_without_a_word(program):
    """However often it is tried again; and a server may be closed meanwhile."""
    check(
        program,
        """
async def main():
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Echo, "127.0.0.1", 0) for _ in range(2)]
    clients = []
    for server in servers:
        sock = socket.socket()
        sock.setblocking(False)
        clients.append(sock)
    addresses = [server.sockets[0].getsockname() for server in servers]
    held = scarce()
    for sock, address in zip(clients, addresses):
        sock.connect_ex(address)
    await asyncio.sleep(2.5)  # asyncio, and so ours, tries again each second
    servers[1].close()  # while its accepting is paused
    plenty(held)
    loop.call_later(20, os.abort)
    while True:  # the other one is served, with nobody's help
        try:
            await loop.sock_sendall(clients[0], b"hello")
            assert await loop.sock_recv(clients[0], 10) == b"hello"
            break
        except BlockingIOError:
            await asyncio.sleep(0.01)
    for sock in clients:
        sock.close()
    servers[0].close()
    await asyncio.sleep(1.2)  # past the retry of the one that was closed
    await works()

told = [context["message"] for context in run(main)]
assert any("out of system resource" in message for message in told), told
if sys.argv[1] != "asyncio":
    assert len(told) == 2, told  # once for each server
print("done")
""",
    )


@pytest.mark.parametrize(
    "attempt",
    [
        "loop.create_connection(Echo, *address)",
        "loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))",
        "asyncio.create_subprocess_exec('true', stdin=-1, stdout=-1)",
    ],
)
def test_what_needs_a_descriptor_fails_alone(program, attempt):
    check(
        program,
        f"""
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address)
    await asyncio.to_thread(int)
    await (await asyncio.create_subprocess_exec("true")).wait()
    held = scarce()
    try:
        await {attempt}
    except OSError as error:
        assert error.errno in (errno.EMFILE, None), error  # None: of several addresses
    else:
        raise AssertionError("it did not fail")
    writer.write(b"goes on")
    assert await reader.readexactly(7) == b"goes on"
    await asyncio.sleep(0.001)
    await asyncio.to_thread(int)
    plenty(held)
    writer.close()
    await writer.wait_closed()
    server.close()
    await works()

assert run(main) == []
print("done")
""",
    )
