"""An echo server for tests of faults: prints its port, then answers commands on its input.

    echo.py KIND [nofile=N] [streams|protocol]

Commands, one a line, each with one line of answer: `count` (connections open), `descriptors`,
`tasks`, `resident` (KiB), `collect`, `stop`. The log goes to the standard error output.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import sys

from tests.engine.loops import new_loop

connections = 0


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        global connections
        connections += 1
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()

    def connection_lost(self, exc):
        global connections
        connections -= 1


async def echo(reader, writer):
    global connections
    connections += 1
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
        # Left alone, its error is told where the collector comes to it first.
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        connections -= 1


def answer(command):
    if command == "count":
        return connections
    if command == "descriptors":
        return len(os.listdir("/proc/self/fd"))
    if command == "tasks":
        return len(asyncio.all_tasks())
    if command == "resident":
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    if command == "collect":
        return gc.collect()
    raise ValueError(command)


async def main(options):
    loop = asyncio.get_running_loop()
    for option in options:
        if option.startswith("nofile="):
            limit = int(option.removeprefix("nofile="))
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    if "streams" in options:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=512)
    else:
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    while (command := (await commands.readline()).decode().strip()) not in ("stop", ""):
        print(answer(command), flush=True)
    server.close()
    for transport in list(getattr(server, "_clients", ())):
        transport.abort()


logging.basicConfig(level=logging.WARNING)
with asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])) as runner:
    runner.run(main(sys.argv[2:]))
