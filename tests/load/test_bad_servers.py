"""Servers that fail in every way: each is counted by its kind, and the run ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme

from neverblock.load import Plan, Progress, run
from tests.conftest import child_processes
from tests.load import stubs
from tests.load.stubs import Handle, stub

#: No server here answers soon, so that nobody waits for long.
SHORT: dict[str, Any] = {"connections": 3, "duration": 0.3, "timeout": 0.5, "size": 100}


@pytest.mark.parametrize("rate", [None, 50.0])
@pytest.mark.parametrize(
    ("handle", "kind"),
    [
        (stubs.closing, "closed by server"),
        (stubs.resetting, "connection reset"),
        (stubs.lying, "wrong answer"),
        (stubs.babbling, "wrong answer"),
        (stubs.silent, "timeout"),
        (stubs.once, "timeout"),
    ],
)
def test_what_a_server_does_wrong_has_a_kind(handle: Handle, kind: str, rate: float | None) -> None:
    with stub(handle) as address:
        result = run(Plan(target=f"tcp://{address}", rate=rate, **SHORT))
    assert result.errors.pop(kind) > 0
    # What the clock asked for while all connections were in trouble could not be sent.
    assert result.errors.keys() <= ({"not sent in time"} if rate else set())


def test_every_request_of_an_open_loop_is_accounted_for() -> None:
    with stub(stubs.once) as address:
        result = run(Plan(target=f"tcp://{address}", rate=100, **SHORT))
    assert result.requests + result.failures == pytest.approx(30, abs=1)


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        target = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        assert run(Plan(target=target, **SHORT)).errors == {"connection refused": 3}
        # The first one of a ramp tells as much.
        assert run(Plan(target=target, ramp=5, **SHORT)).errors == {"connection refused": 1}


def test_a_server_whose_queue_is_full() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        target = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        result = run(Plan(target=target, **{**SHORT, "connections": 10}))
    assert result.errors["connect timeout"] > 0
    assert result.errors.keys() <= {"connect timeout", "timeout"}


def test_a_unix_server_whose_queue_is_full(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "full.sock"))
        sock.listen(0)
        result = run(Plan(target=f"unix://{tmp_path}/full.sock", **SHORT))
    assert result.errors["backlog full"] > 0


def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    result = run(Plan(target=f"unix://{tmp_path}/none.sock", **SHORT))
    assert result.errors == {"no such socket": 3}


@pytest.mark.parametrize("host", ["does-not-exist.invalid", "a..b", f"{'a' * 64}.invalid"])
def test_a_name_that_does_not_exist(host: str) -> None:
    result = run(Plan(target=f"tcp://{host}:7000", **SHORT))
    assert result.errors == {"name not found": 1}


def certified(name: str, authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_certificates_are_looked_at(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusted = str(tmp_path / "ca.pem")
    with stub(stubs.echo, tls=certified("127.0.0.1", authority)) as address:
        target = f"tls://{address}"
        assert run(Plan(target=target, **SHORT)).errors == {"certificate refused": 3}
        good = run(Plan(target=target, ca=trusted, **SHORT))
        assert good.errors == {}
        assert good.requests > 0
    with stub(stubs.echo, tls=certified("other.example", authority)) as address:
        target = f"tls://{address}"
        assert run(Plan(target=target, ca=trusted, **SHORT)).errors == {"certificate refused": 3}
        assert run(Plan(target=target, insecure=True, **SHORT)).errors == {}


def test_a_server_that_speaks_no_tls() -> None:
    with stub(stubs.saying(b"hello\n")) as address:
        result = run(Plan(target=f"tls://{address}", **SHORT))
    assert result.errors == {"TLS handshake failed": 3}
    with stub(stubs.silent) as address:
        result = run(Plan(target=f"tls://{address}", **SHORT))
    assert result.errors == {"connect timeout": 3}


@pytest.mark.parametrize(
    ("scheme", "reply", "kind"),
    [
        ("http", b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno", "HTTP 503"),
        ("http", b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP 404"),
        ("http", b"220 mail.example ESMTP\r\n", "wrong answer"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: ?\r\n\r\n", "wrong answer"),
        ("redis", b"-LOADING later\r\n", "redis LOADING"),
        ("redis", b"$3\r\nabc\r\n", "wrong answer"),
        ("redis", b"HTTP/1.1 400 Bad Request\r\n\r\n", "wrong answer"),
    ],
)
def test_replies_that_are_errors_or_none(scheme: str, reply: bytes, kind: str) -> None:
    with stub(stubs.saying(reply)) as address:
        result = run(Plan(target=f"{scheme}://{address}", mix="ping", **SHORT))
    assert result.errors.keys() == {kind}
    assert result.requests == 0


def test_a_client_process_that_dies_is_named_and_the_others_count() -> None:
    before = child_processes()
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.phase == "measuring" and not killed:
            killed.append(max(child_processes() - before))
            os.kill(killed[0], signal.SIGKILL)

    with stub(stubs.echo) as address:
        plan = Plan(target=f"tcp://{address}", **{**SHORT, "processes": 2, "duration": 1.0})
        result = run(plan, on_progress=kill_one)
    assert result.errors == {"load process died": 1}
    assert result.examples["load process died"] == f"process {killed[0]}: SIGKILL"
    assert result.requests > 0
    assert len(result.clients) == 1


def test_a_connection_that_is_lost_before_the_start_is_opened_again_once() -> None:
    there = threading.Semaphore(0)
    release: list[Any] = []
    first = left = 3
    now = most = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left, now, most
        if left:
            left -= 1
            gone = asyncio.Event()
            loop = asyncio.get_running_loop()
            release.append(lambda: loop.call_soon_threadsafe(gone.set))
            there.release()
            await gone.wait()
            return
        now += 1
        most = max(most, now)
        await stubs.echo(reader, writer)
        now -= 1

    def gate() -> None:
        for _ in range(first):
            assert there.acquire(timeout=60)
        for close in release:
            close()

    with stub(handle) as address:
        plan = Plan(target=f"tcp://{address}", **{**SHORT, "duration": 1.0})
        result = run(plan, gate=gate)
    assert result.errors == {"closed by server": first}
    assert result.connect.count == 2 * first
    assert most == first


def test_idle_connections_that_a_server_closes_are_told() -> None:
    with stub(stubs.echo_but_the_first(4)) as address:
        result = run(Plan(target=f"tcp://{address}", idle=6, **SHORT))
    assert (result.idle.asked, result.idle.opened, result.idle.closed) == (6, 6, 4)
    assert result.errors == {}
