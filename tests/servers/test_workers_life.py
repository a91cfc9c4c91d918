"""The life of workers: starting, reloading, backing off, draining, leaving nothing behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from neverblock import Server
from neverblock.servers import Stream
from tests.servers.serving import PATIENCE, Process, exactly, neverblock, served
from tests.servers.working import HANDLERS, alive, children, gone, lost, owner, ready, until_gone


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "app.py"
    path.write_text(HANDLERS)
    return str(path)


def rewrite(app: str, text: str) -> None:
    """Give the handler's file other contents, of another size: Python's cache goes by that, too."""
    assert len(text) != Path(app).stat().st_size
    Path(app).write_text(text)


def new_version(app: str) -> None:
    rewrite(app, HANDLERS.replace('b"old"', 'b"new!"'))


def version(client: socket.socket) -> bytes:
    client.sendall(b"?")
    return client.recv(10)


# Starting


def test_what_cannot_be_loaded_is_refused_as_without_workers(app: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nonsense\n")
    for handler in (f"{app}:nothing", "missing.py:handle", f"{broken}:handle", f"{app}:VERSION"):
        alone = neverblock("serve", handler, "--bind", "tcp://127.0.0.1:0")
        refused = neverblock("serve", handler, "--bind", "tcp://127.0.0.1:0", "--workers", "2")
        assert refused.returncode == 2
        assert refused.stderr == alone.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_a_handler_that_kills_its_process_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import os\nos._exit(3)\n")
    refused = neverblock("serve", f"{tmp_path}/app.py:handle", "--workers", "2")
    assert refused.returncode == 2
    assert re.search(r"worker \d \(pid \d+\) exited with 3 before", refused.stderr)
    assert len(refused.stderr.splitlines()) == 1


def test_a_signal_ends_the_start(tmp_path: Path) -> None:
    """A module may take long to import."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "app.py").write_text(f"open({str(gate)!r}, 'w').write('x')\nopen({str(gate)!r})\n")
    command = [sys.executable, "-m", "neverblock", "serve", f"{tmp_path}/app.py:handle"]
    with subprocess.Popen(
        [*command, "--workers", "1", "--bind", "tcp://127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        server = Process(process, [])
        gate.read_text()  # It is being imported, and waits for more.
        server.send()
        assert server.wait() == 0
        assert "SIGTERM: draining" in server.log


@pytest.mark.parametrize(("asked", "expected"), [("auto", len(os.sched_getaffinity(0))), ("3", 3)])
def test_as_many_as_asked_for(app: str, asked: str, expected: int) -> None:
    with served(f"{app}:pid", "--workers", asked) as server:
        plural = "s" if expected > 1 else ""
        assert f", {expected} worker{plural}, pid {server.pid})" in server.lines[0]
        assert len(children(server.pid)) == expected
        assert server.stop() == 0


# Reloading


def test_a_reload_drops_no_connection(app: str) -> None:
    with served(f"{app}:version", "--workers", "2") as server, ExitStack() as opened:
        ready(server, 2)
        old = [opened.enter_context(server.connect()) for _ in range(20)]
        assert {version(client) for client in old} == {b"old"}
        before = children(server.pid)
        new_version(app)
        load = Load(server)
        with load:
            server.send(signal.SIGHUP)
            server.wait_until_logged("reloaded: ")
            load.wait_for(b"new!")
        assert not load.errors
        # From then on there are none but new ones; those that were there go on as they were.
        with server.connect() as client:
            assert version(client) == b"new!"
        assert {version(client) for client in old} == {b"old"}
        assert set(before) <= set(children(server.pid))
        opened.close()
        until_gone(before)
        assert server.stop() == 0
        assert "ERROR" not in server.log


class Load:
    """Clients that come and go, each with two questions that have to be answered alike."""

    def __init__(self, server: Process) -> None:
        self.errors: list[str] = []
        self._server = server
        self._seen: set[bytes] = set()
        self._news = threading.Condition()
        self._over = False
        self._threads = [threading.Thread(target=self._work) for _ in range(4)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for thread in self._threads:
            thread.join()

    def wait_for(self, answer: bytes) -> None:
        with self._news:
            assert self._news.wait_for(lambda: answer in self._seen, PATIENCE)

    def _work(self) -> None:
        while not self._over:
            try:
                with self._server.connect() as client:
                    first, second = version(client), version(client)
            except OSError as error:
                self.errors.append(str(error))
                return
            if first != second or not first:
                self.errors.append(f"{first!r}, then {second!r}")
            with self._news:
                self._seen.add(first)
                self._news.notify_all()


def test_code_that_cannot_be_loaded_changes_nothing(app: str) -> None:
    with served(f"{app}:version", "--workers", "2") as server:
        before = ready(server, 2)
        for text in ("def broken(:\n", "import os\nos._exit(5)\n", "VERSION = 1\n"):
            rewrite(app, text)
            server.send(signal.SIGHUP)
            server.wait_until_logged("cannot reload, those before go on: ")
            line = server.own_log.splitlines()[-1]
            assert "ERROR" in line
            server.log = ""
            with server.connect() as client:
                assert version(client) == b"old"
        assert sorted(set(children(server.pid)) & set(before)) == sorted(before)
        new_version(app)
        server.send(signal.SIGHUP)
        server.wait_until_logged("reloaded: ")
        with server.connect() as client:
            assert version(client) == b"new!"
        assert server.stop() == 0


def test_a_second_reload_takes_the_place_of_the_first(app: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with served(f"{app}:version", "--workers", "1") as server:
        [first] = ready(server, 1)
        rewrite(app, f"open({str(gate)!r}, 'w').write('x')\nopen({str(gate)!r})\n")
        server.send(signal.SIGHUP)
        gate.read_text()  # It is being imported, and would be for ever.
        [stuck] = set(children(server.pid)) - {first}
        new_version(app)
        server.send(signal.SIGHUP)
        server.wait_until_logged("reloaded: ")
        with server.connect() as client:
            assert version(client) == b"new!"
        until_gone([first, stuck])
        assert server.stop() == 0
        assert "ERROR" not in server.log


def test_workers_of_an_earlier_generation_are_drained_too(app: str) -> None:
    with served(f"{app}:version", "--workers", "2") as server, ExitStack() as opened:
        before = ready(server, 2)
        old = [opened.enter_context(server.connect()) for _ in range(4)]
        assert {version(client) for client in old} == {b"old"}
        server.send(signal.SIGHUP)
        server.wait_until_logged("reloaded: ")
        assert server.stop() == 0
        assert all(client.recv(1) == b"" for client in old)
        until_gone(before)
        assert "ERROR" not in server.log


# Back-off


def test_workers_that_die_again_and_again_are_started_less_and_less_often(app: str) -> None:
    with served(f"{app}:pid", "--workers", "1") as server:
        [first] = ready(server, 1)
        rewrite(app, "import os\nos._exit(9)\n")
        os.kill(first, signal.SIGKILL)
        server.wait_until_logged("another starts in 1 s")
        assert re.findall(r"another starts (.*)", server.log) == ["at once", "in 0.5 s", "in 1 s"]
        assert server.log.count("exited with 9") == 2
        # A client that comes meanwhile is not refused: it waits for the next one.
        with server.connect() as client:
            new_version(app)
            owner(client)
        assert server.stop() == 0


def test_a_reload_mends_what_is_backed_off(app: str) -> None:
    with served(f"{app}:version", "--workers", "1") as server:
        [first] = ready(server, 1)
        rewrite(app, "import nonsense\n")
        os.kill(first, signal.SIGKILL)
        server.wait_until_logged("another starts in 1 s")
        assert "cannot serve: importing" in server.log
        with server.connect() as early:  # Nobody can serve it yet.
            new_version(app)
            server.send(signal.SIGHUP)
            server.wait_until_logged("reloaded: ")
            assert version(early) == b"new!"
        with server.connect() as client:
            assert version(client) == b"new!"
        assert server.stop() == 0


# Stopping


def test_stragglers_of_all_workers_are_counted(app: str) -> None:
    with served(f"{app}:deaf", "--workers", "2", "--drain-timeout", "0.2") as server:
        left = children(server.pid)
        with ExitStack() as opened:
            for _ in range(5):
                client = opened.enter_context(server.connect())
                client.sendall(b"half")
                owner(client)
                assert exactly(client, 1) == b"!"
            assert server.stop() == 3
        assert "drain timeout of 0.2 s is over: 5 connections reset" in server.log
        assert "ERROR" not in server.log
        assert all(map(gone, left))


def test_a_second_signal_does_not_wait(app: str) -> None:
    with served(f"{app}:deaf", "--workers", "2", "--drain-timeout", "600") as server:
        with server.connect() as client:
            client.sendall(b"half")
            owner(client)
            assert exactly(client, 1) == b"!"
            server.send()
            server.wait_until_logged("draining")
            assert server.stop() == 3
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert "told to stop again: 1 connection reset" in server.log


def test_a_worker_that_is_stuck_is_killed_in_the_end(app: str) -> None:
    with served(f"{app}:stuck", "--workers", "2", "--drain-timeout", "0.2") as server:
        left = children(server.pid)
        with server.connect() as client:
            owner(client)
            client.sendall(b"x")
            assert server.stop() == 3
            assert lost(client)
        assert all(map(gone, left))


def test_ctrl_c_in_a_terminal_drains_once(app: str) -> None:
    """It goes to the workers as well, for whom it is not."""
    with served(f"{app}:pid", "--workers", "2") as server, server.connect() as client:
        ready(server, 2)
        owner(client)
        for pid in (*children(server.pid), server.pid):
            os.kill(pid, signal.SIGINT)
        assert server.wait() == 0
        assert client.recv(1) == b""
        assert server.log.count("SIGINT: draining") == 1
        assert "ERROR" not in server.log


def test_a_signal_to_the_whole_group_ends_it_in_order(app: str) -> None:
    with served(f"{app}:pid", "--workers", "2") as server, server.connect() as client:
        ready(server, 2)
        owner(client)
        for pid in (server.pid, *children(server.pid)):
            os.kill(pid, signal.SIGTERM)
        assert server.wait() == 0
        assert client.recv(1) == b""
        assert "ERROR" not in server.log


def test_a_worker_that_is_told_to_end_is_drained_and_replaced(app: str) -> None:
    with served(f"{app}:pid", "--workers", "2") as server, ExitStack() as opened:
        ready(server, 2)
        clients = [opened.enter_context(server.connect()) for _ in range(4)]
        owners = [owner(client) for client in clients]
        os.kill(owners[0], signal.SIGTERM)
        [replacement] = ready(server, 1)
        for client, pid in zip(clients, owners, strict=True):
            assert client.recv(1) == b"" if pid == owners[0] else alive(client)
        until_gone([owners[0]])
        assert replacement in children(server.pid)
        assert server.stop() == 0
        assert "ERROR" not in server.log


def test_a_worker_that_is_told_twice_resets(app: str) -> None:
    with served(f"{app}:deaf", "--workers", "1", "--drain-timeout", "600") as server:
        ready(server, 1)
        with server.connect() as client:
            client.sendall(b"half")
            pid = owner(client)
            assert exactly(client, 1) == b"!"
            os.kill(pid, signal.SIGTERM)
            server.wait_until_logged("draining it")
            os.kill(pid, signal.SIGTERM)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        server.wait_until_logged("1 connection reset")
        until_gone([pid])
        assert server.stop() == 0


def test_no_orphan_is_left(app: str) -> None:
    options = ("--workers", "2", "--drain-timeout", "0.2")
    with served(f"{app}:deaf", *options) as server, ExitStack() as opened:
        ready(server, 2)
        for _ in range(4):
            client = opened.enter_context(server.connect())
            client.sendall(b"half")
            owner(client)
            assert exactly(client, 1) == b"!"
        left = children(server.pid)
        server.send(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL  # The log ends when the last of them has ended.
        assert "the supervisor is gone: draining" in server.log
        until_gone(left)


# From Python


def test_a_handler_that_is_an_object() -> None:
    with Server(tell_pid, workers=2) as server, ExitStack() as opened:
        host, _, port = server.url.removeprefix("tcp://").rpartition(":")
        clients = [
            opened.enter_context(socket.create_connection((host, int(port)))) for _ in range(4)
        ]
        pids = [owner(client) for client in clients]
        assert len(set(pids)) == 2
        assert os.getpid() not in pids


async def tell_pid(stream: Stream) -> None:
    await stream.send(b"%10d" % os.getpid())
