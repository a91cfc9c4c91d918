"""``python -m bench.silence``: does a watch cry wolf? Idle, under echo load, and without CPU.

- Every stall that is told while nobody blocks the loop is a false alarm, but for the one that
  says that the system had no CPU for it: on a shared machine that is true.
- The load comes from a process of its own; the watched loop serves all the time.
"""

import argparse
import asyncio
import multiprocessing
import os
import socket
import sys
import time
from collections import Counter

import neverblock
from neverblock.watch import Cause, Stall

#: Messages that are under way at once, bytes of each, and connections.
DEPTH = 8
MESSAGE = b"!" * 1024
CLIENTS = 8

#: Seconds that a callback may take.
THRESHOLD = 0.05


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def load(port: int) -> None:
    """Keeps the server busy until it goes."""
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS)]
    try:
        for client in clients:
            client.sendall(MESSAGE * DEPTH)
        while True:
            for client in clients:
                got = client.recv(65536)
                if not got:
                    return
                client.sendall(got)
    except OSError:
        return


async def idle(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def echo(seconds: float) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loading = multiprocessing.get_context("spawn").Process(target=load, args=(port,))
    await asyncio.to_thread(loading.start)
    try:
        await asyncio.sleep(seconds)
    finally:
        loading.kill()
        await asyncio.to_thread(loading.join)
        server.close()


async def starved(seconds: float) -> None:
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    spin = [sys.executable, "-c", "while True: pass"]
    spinning = [await asyncio.create_subprocess_exec(*spin) for _ in range(2)]
    os.nice(10)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            await asyncio.sleep(0)
    finally:
        for process in spinning:
            process.kill()
            await process.wait()


SCENES = {"idle": idle, "echo": echo, "starved": starved}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.silence", description=__doc__)
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    found: list[Stall] = []
    neverblock.run(
        SCENES[options.scene](options.seconds),
        watch=neverblock.Watch(threshold=THRESHOLD, on_stall=found.append),
    )
    told = Counter(str(stall.cause) for stall in found if not stall.over)
    false = sum(count for cause, count in told.items() if cause != Cause.NOT_SCHEDULED)
    print(
        f"{options.scene}: {options.seconds:g} s, threshold {THRESHOLD * 1e3:g} ms; "
        f"not scheduled by the system: {told[Cause.NOT_SCHEDULED]}; false alarms: {false}"
    )
    for stall in found:
        if stall.cause != Cause.NOT_SCHEDULED and not stall.over:
            print(f"    {stall}")
    return 1 if false else 0


if __name__ == "__main__":
    sys.exit(main())
