"""Workers: who gets the connections, what is lost when one dies, reloading, stopping."""

import errno
import os
import re
import signal
import socket
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.servers.serving import PATIENCE, address_of, exactly, served
from tests.servers.working import (
    HANDLERS,
    alive,
    children,
    enough_descriptors,
    lost,
    owner,
    ready,
    until_gone,
)


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "app.py"
    path.write_text(HANDLERS)
    return str(path)


@pytest.fixture(params=["tcp", "unix"])
def bind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix://{tmp_path}/app.sock"


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


def test_a_handler_that_exits_ends_its_worker_only(app: str) -> None:
    with served(f"{app}:pid", "--workers", "2") as server, ExitStack() as opened:
        ready(server, 2)
        first, second = (opened.enter_context(server.connect()) for _ in range(2))
        pids = [owner(first), owner(second)]
        first.sendall(b"exit")
        assert lost(first)
        server.wait_until_logged("another starts at once")
        assert f"(pid {pids[0]}) exited with 7, with 1 connection" in server.log
        assert alive(second)
        assert server.stop() == 0


def test_a_worker_without_a_descriptor_left_is_passed_over(app: str) -> None:
    with served(f"{app}:pid", "--workers", "2") as server, ExitStack() as opened:
        ready(server, 2)
        first, second = (opened.enter_context(server.connect()) for _ in range(2))
        full, roomy = owner(first), owner(second)
        first.sendall(b"fill")
        assert exactly(first, 4) == b"fill"
        clients = [opened.enter_context(server.connect()) for _ in range(20)]
        assert {owner(client) for client in clients} == {roomy}
        server.wait_until_logged("too many open files")
        assert f"(pid {full}) has no room" in server.log
        assert alive(first)
        assert server.stop() == 0


def test_where_no_worker_has_room_clients_wait(app: str) -> None:
    with served(f"{app}:pid", "--workers", "1") as server, ExitStack() as opened:
        [pid] = ready(server, 1)
        first, leaving = (opened.enter_context(server.connect()) for _ in range(2))
        assert {owner(first), owner(leaving)} == {pid}
        first.sendall(b"fill")
        assert exactly(first, 4) == b"fill"
        waiting = opened.enter_context(server.connect())
        server.wait_until_logged("too many open files")
        leaving.close()
        assert owner(waiting) == pid
        assert server.stop() == 0


def test_the_bound_is_for_all_of_them(app: str, bind: str) -> None:
    options = ("--workers", "2", "--max-connections", "3")
    with served(f"{app}:pid", *options, binds=(bind,)) as server, ExitStack() as opened:
        clients = [opened.enter_context(server.connect()) for _ in range(4)]
        for client in clients[:3]:
            owner(client)
        clients[3].setblocking(False)
        with pytest.raises(BlockingIOError):
            clients[3].recv(1)
        clients[3].settimeout(PATIENCE)
        clients[0].close()
        owner(clients[3])
        assert server.stop() == 0


def test_a_worker_that_does_not_answer_keeps_nobody_from_the_others(app: str) -> None:
    with served(f"{app}:short", "--workers", "2") as server, ExitStack() as opened:
        pids = ready(server, 2)
        os.kill(pids[0], signal.SIGSTOP)
        served_by: set[int] = set()
        for _ in range(100):
            client = opened.enter_context(server.connect())
            client.settimeout(0.5)
            with suppress(TimeoutError):
                served_by.add(owner(client))
                break
        assert served_by == {pids[1]}
        os.kill(pids[0], signal.SIGCONT)
        assert server.stop() == 0


@pytest.mark.parametrize("backend", ["poll", "select"])
def test_workers_wait_with_the_backend_asked_for(app: str, backend: str) -> None:
    with served(f"{app}:pid", "--workers", "2", "--backend", backend) as server:
        assert f"(model loop, backend {backend}, 2 workers, pid {server.pid})" in server.lines[0]
        with server.connect() as first, server.connect() as second:
            assert owner(first) != owner(second)
        assert server.stop() == 0
        assert "ERROR" not in server.log


def test_nothing_is_left_of_connections_that_ended(app: str) -> None:
    with served(f"{app}:short", "--workers", "2") as server:
        pids = [server.pid, *ready(server, 2)]

        def descriptors() -> list[int]:
            for _ in range(20):
                with server.connect() as client:
                    assert int(exactly(client, 10)) in pids
                    assert client.recv(1) == b""
            return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]

        least = descriptors()
        # One that just ended may still be counted.
        while any(now > before + 1 for now, before in zip(descriptors(), least, strict=True)):
            pass
        assert server.stop() == 0


def test_workers_keep_nothing_of_their_supervisor(app: str) -> None:
    """Neither listening sockets nor another's connections, which would not end with it."""
    with served(f"{app}:pid", "--workers", "2") as server, ExitStack() as opened:
        first, second = ready(server, 2)
        clients = [opened.enter_context(server.connect()) for _ in range(20)]
        for client in clients:
            owner(client)
        os.kill(first, signal.SIGKILL)
        [third] = ready(server, 1)
        sockets = {pid: sockets_of(pid) for pid in (server.pid, second, third)}
        # They share what wakes the supervisor's loop, which a child leaves alone.
        assert len(sockets[second] & sockets[third]) == 2
        server.send(signal.SIGKILL)
        server.process.wait(PATIENCE)
        family, address = address_of(server.url)
        with socket.socket(family) as late:
            assert late.connect_ex(address) == errno.ECONNREFUSED
        until_gone([second, third])


def sockets_of(pid: int) -> set[str]:
    """What tells the sockets of a process apart."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            target = os.readlink(entry)
            if target.startswith("socket:"):
                found.add(target)
    return found
