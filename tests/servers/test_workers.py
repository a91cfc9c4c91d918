"""Workers: who gets the connections, what is lost when one dies, reloading, stopping."""

import errno
import os
import re
import signal
import socket
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.serving import PATIENCE, Process, exactly, served

HANDLERS = """
import asyncio, os, sys

async def pid(stream):
    '''Says which process serves, then echoes.'''
    await stream.send(b"%10d" % os.getpid())
    async for chunk in stream:
        if chunk == b"die":
            os._exit(7)
        await stream.send(chunk)

async def version(stream):
    await stream.send(VERSION)
    async for chunk in stream:
        await stream.send(VERSION)

async def deaf(stream):
    await stream.send(b"%10d" % os.getpid())
    await stream.receive_exactly(5)

async def stuck(stream):
    import time
    await stream.send(b"%10d" % os.getpid())
    time.sleep(600)

async def short(stream):
    await stream.send(b"%10d" % os.getpid())

VERSION = b"old"
"""


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "app.py"
    path.write_text(HANDLERS)
    return str(path)


@pytest.fixture(params=["tcp", "unix"])
def bind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix://{tmp_path}/app.sock"


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


def test_no_worker_holds_much_more_than_the_others(app: str, bind: str) -> None:
    number = enough_descriptors(2000)
    with served(f"{app}:pid", "--workers", "4", binds=(bind,)) as server:
        with ExitStack() as opened:
            shares: Counter[int] = Counter()
            while shares.total() < number:
                # Not more at once than the listen queue has room for.
                group = [opened.enter_context(server.connect()) for _ in range(100)]
                shares.update(owner(client) for client in group)
            assert sorted(shares) == sorted(children(server.pid))
            assert max(shares.values()) <= 1.3 * shares.total() / 4
        assert server.stop() == 0
        assert "ERROR" not in server.log


def test_those_who_left_are_made_up_for(app: str) -> None:
    number = enough_descriptors(1000)
    with served(f"{app}:pid", "--workers", "4") as server:
        clients = [server.connect() for _ in range(number)]
        owners = {client: owner(client) for client in clients}
        victims = sorted(set(owners.values()))[:2]
        try:
            for client in [each for each, pid in owners.items() if pid in victims]:
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""  # It is over, and the supervisor soon hears of it.
                client.close()
                del owners[client]
            # Connections that end are told after those that are handed out: one more turn each.
            with server.connect() as last:
                owner(last)
            for _ in range(number - len(owners)):
                client = server.connect()
                owners[client] = owner(client)
            shares = Counter(owners.values())
            assert max(shares.values()) <= 1.3 * number / 4
        finally:
            for client in owners:
                client.close()
        assert server.stop() == 0


def test_short_connections_go_round(app: str) -> None:
    with served(f"{app}:short", "--workers", "4") as server:
        shares: Counter[int] = Counter()
        for _ in range(200):
            with server.connect() as client:
                shares[owner(client)] += 1
                assert client.recv(1) == b""
        assert len(shares) == 4
        assert max(shares.values()) <= 1.3 * 50
        assert server.stop() == 0


def test_a_worker_that_is_killed_costs_its_own_clients_only(app: str, bind: str) -> None:
    with served(f"{app}:pid", "--workers", "4", binds=(bind,)) as server, ExitStack() as opened:
        ready(server)
        clients = [opened.enter_context(server.connect()) for _ in range(80)]
        owners = [owner(client) for client in clients]
        victim = owners[0]
        os.kill(victim, signal.SIGKILL)
        server.wait_until_logged("another starts at once")
        assert re.search(rf"worker \d \(pid {victim}\) died by SIGKILL, with 20 conn", server.log)
        for client, pid in zip(clients, owners, strict=True):
            assert lost(client) if pid == victim else alive(client)
        [replacement] = ready(server, 1)
        newcomers = [opened.enter_context(server.connect()) for _ in range(20)]
        assert {owner(client) for client in newcomers} == {replacement}
        assert server.stop() == 0


def test_clients_that_no_worker_took_are_served_by_another(app: str) -> None:
    with served(f"{app}:pid", "--workers", "2") as server, ExitStack() as opened:
        pids = ready(server, 2)
        os.kill(pids[0], signal.SIGSTOP)
        clients = [opened.enter_context(server.connect()) for _ in range(40)]
        os.kill(pids[0], signal.SIGKILL)
        server.wait_until_logged("another starts at once")
        assert pids[0] not in {owner(client) for client in clients}
        assert server.stop() == 0
