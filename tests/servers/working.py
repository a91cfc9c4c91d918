"""What the tests of workers share: handlers that tell their process, and ways to look at them."""

import errno
import os
import re
import socket
import time
from pathlib import Path

from tests.servers.serving import PATIENCE, Process, exactly

HANDLERS = """
import asyncio, os, resource, signal, time

VERSION = b"old"

async def pid(stream):
    'Says which process serves, then echoes.'
    await stream.send(b"%10d" % os.getpid())
    async for chunk in stream:
        if chunk == b"exit":
            os._exit(7)
        if chunk == b"fill":  # Leave no descriptor free.
            used = len(os.listdir("/proc/self/fd")) - 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, used))
        await stream.send(chunk)

async def version(stream):
    'Says which code serves, at each message.'
    async for chunk in stream:
        await stream.send(VERSION)

async def deaf(stream):
    'Waits for the rest of a message that began, drain or not.'
    await stream.send(b"%10d" % os.getpid())
    await stream.receive_exactly(1)
    await stream.send(b"!")
    await stream.receive_exactly(5)

async def stuck(stream):
    await stream.send(b"%10d" % os.getpid())
    await stream.receive()
    time.sleep(600)

async def short(stream):
    await stream.send(b"%10d" % os.getpid())
"""


def owner(client: socket.socket) -> int:
    """The process that says that it serves a client."""
    return int(exactly(client, 10))


def alive(client: socket.socket) -> bool:
    """Whether it is served still."""
    client.sendall(b"x")
    return exactly(client, 1) == b"x"


def lost(client: socket.socket) -> bool:
    """Whether its connection ended, in any way."""
    try:
        return client.recv(1) == b""
    except OSError as error:
        return error.errno in (errno.ECONNRESET, errno.EPIPE)


def ready(server: Process, number: int = 4) -> list[int]:
    """The pids of so many workers more, as soon as they are ready."""
    assert server.process.stderr is not None
    found: list[int] = []
    while len(found) < number:
        line = server.process.stderr.readline()
        assert line, server.log
        server.log += line
        found += map(int, re.findall(r"\(pid (\d+)\) is ready", line))
    return found


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not all(map(gone, pids)):
        assert time.monotonic() < deadline, f"still there: {pids}"
        os.sched_yield()


def enough_descriptors(clients: int) -> int:
    """So many, or as many as this process may have."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < clients + 100:
        wanted = clients + 100 if hard == resource.RLIM_INFINITY else min(hard, clients + 100)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft < clients + 100:
        print(f"the limit of {soft} descriptors allows fewer than {clients} connections")
    return min(clients, soft - 100)
