"""Listening: which sockets a bind opens, with what options, and what stands in its way."""

import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from neverblock.errors import BindError
from neverblock.servers.listen import listen, opened
from neverblock.servers.settings import Settings
from tests.servers.serving import PATIENCE, WAYS, exactly, neverblock, served
from tests.servers.wrappers import own_network, without_ipv6

ECHO = "examples/echo.py:handle"

#: Tells what the connection's socket is set to: it is the only one of this process that is
#: connected by TCP.
OPTIONS = """
import os, socket

NAMES = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")

async def handle(stream):
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            sock = socket.socket(fileno=os.dup(number))
            sock.getpeername()
        except OSError:
            continue
        if sock.family == socket.AF_INET:
            keepalive = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            nodelay = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            times = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in NAMES]
            await stream.send(repr((nodelay, keepalive, *times)).encode())
        sock.close()
"""


def connect(host: str, port: int) -> None:
    with socket.create_connection((host, port), PATIENCE):
        pass


def test_every_address_means_ipv4_and_ipv6_on_one_port() -> None:
    with served(ECHO, binds=("tcp://*:0",)) as server:
        port = int(server.url.rpartition(":")[2])
        assert server.url == f"tcp://*:{port}"
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port), PATIENCE) as client:
                client.sendall(b"hello")
                assert exactly(client, 5) == b"hello"


def test_a_port_that_is_taken_on_one_of_the_addresses_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BindError, match=f"port {port} is in use"):
            listen(f"tcp://*:{port}")
        with listen(f"tcp://[::1]:{port}"):  # What was opened before the refusal is closed.
            pass


def test_without_ipv6_every_address_means_ipv4_alone() -> None:
    with served(ECHO, binds=("tcp://*:0",), wrapper=without_ipv6()) as server:
        with server.connect() as client:
            client.sendall(b"hello")
            assert exactly(client, 5) == b"hello"
        assert server.stop() == 0
    assert "no IPv6 (Address family not supported by protocol)" in server.log


def test_without_ipv6_an_address_of_it_is_refused() -> None:
    refused = neverblock("serve", ECHO, "--bind", "tcp://[::1]:0", wrapper=without_ipv6())
    assert refused.returncode == 2
    assert "cannot listen on tcp://[::1]:0: " in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_any_port_is_one_that_is_free_on_every_address() -> None:
    """Of the two ports that there are, one is taken, for IPv4 only."""
    program = """
import socket
from neverblock.servers.listen import listen
with socket.create_server(("0.0.0.0", 0)) as other:
    taken = other.getsockname()[1]
    for _ in range(20):
        with listen("tcp://*:0") as listener:
            ports = {sock.getsockname()[1] for sock in listener.sockets}
            assert len(listener.sockets) == 2 and len(ports) == 1 and taken not in ports
"""
    network = own_network("net.ipv4.ip_local_port_range=40000 40001")
    subprocess.run([*network, sys.executable, "-c", program], check=True, timeout=PATIENCE)


def test_where_no_port_is_free_that_is_said() -> None:
    program = """
import socket
from neverblock.errors import BindError
from neverblock.servers.listen import listen
with socket.create_server(("0.0.0.0", 0)), socket.create_server(("0.0.0.0", 0)):
    try:
        listen("tcp://*:0")
    except BindError as error:
        print(error)
"""
    network = own_network("net.ipv4.ip_local_port_range=40000 40001")
    done = subprocess.run(
        [*network, sys.executable, "-c", program],
        check=True,
        timeout=PATIENCE,
        text=True,
        capture_output=True,
    )
    assert done.stdout == (
        "cannot listen on tcp://*:0: no port was found that is free on every address; choose one\n"
    )


def test_binds_are_opened_in_their_order_and_closed_together() -> None:
    urls = ["tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://127.0.0.1:0"]
    with opened(urls, Settings()) as listeners:
        hosts = [listener.bind.host for listener in listeners]
        assert hosts == ["127.0.0.1", "::1", "127.0.0.1"]
        ports = {listener.bind.port for listener in listeners}
        assert 0 not in ports
        for listener in listeners:
            connect(listener.bind.host, listener.bind.port)
    for listener in listeners:
        with pytest.raises(ConnectionRefusedError):
            connect(listener.bind.host, listener.bind.port)


def test_a_bind_that_cannot_be_had_closes_those_before_it(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with pytest.raises(BindError), opened([f"unix://{path}", "tcp://192.0.2.1:0"], Settings()):
        pass
    assert not path.exists()


@pytest.mark.parametrize("mode", ["0600", "660", "0o777"])
def test_a_unix_socket_has_the_mode_that_was_asked_for(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "app.sock"
    with served(ECHO, "--unix-mode", mode, binds=(f"unix://{path}",)):
        assert stat.S_IMODE(path.stat().st_mode) == int(mode.removeprefix("0o"), 8)


def test_a_mode_replaces_that_of_the_stale_file_s(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with listen(f"unix://{path}", Settings(unix_mode=0o640)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not path.exists()


def test_a_path_that_is_too_long_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/{'ü' * 100}"
    with pytest.raises(BindError, match=r"bytes, and an address holds 10\d; choose a shorter path"):
        listen(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [107, 108])
def test_the_longest_path_is_the_kernel_s(tmp_path: Path, length: int) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("other systems have another limit")
    path = f"{tmp_path}/".ljust(length, "x")
    if len(path) > length:
        pytest.skip("the temporary directory's name is longer already")
    if length == 108:
        with pytest.raises(BindError, match="choose a shorter path"):
            listen(f"unix://{path}")
    else:
        with listen(f"unix://{path}"):
            assert Path(path).is_socket()


@pytest.mark.parametrize("how", WAYS, ids=" ".join)
def test_accepted_connections_have_the_options(tmp_path: Path, how: tuple[str, ...]) -> None:
    app = tmp_path / "app.py"
    app.write_text(OPTIONS)
    for options, expected in (
        ((), (1, 1, 60, 15, 4)),
        (("--no-nodelay", "--keepalive", "7"), (0, 1, 7, 2, 4)),
    ):
        with (
            served(f"{app}:handle", *how, *options) as server,
            server.connect() as client,
        ):
            assert exactly(client, 1000) == repr(expected).encode()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, (0,)), (0.2, (1, 1, 1)), (600.0, (1, 600, 75)), (32767.0, (1, 32767, 75))],
)
def test_keepalive_asks_after_the_silence_that_was_set(
    seconds: float, expected: tuple[int, ...]
) -> None:
    with listen("tcp://127.0.0.1:0", Settings(keepalive=seconds)) as listener:
        [listening] = listener.sockets
        with socket.create_connection(listening.getsockname()):
            listening.setblocking(True)
            accepted, _ = listening.accept()
            with accepted:
                found = [accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
                if seconds:
                    found += [
                        accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL")
                    ]
                assert tuple(found) == expected


def test_a_backlog_above_the_system_s_limit_is_told() -> None:
    limit = Path("/proc/sys/net/core/somaxconn")
    if not limit.exists():
        pytest.skip("the limit of the backlog is not known")
    most = int(limit.read_text())
    with served(ECHO, "--backlog", str(most + 1)) as server:
        assert server.stop() == 0
    assert f"a backlog of {most + 1} is above the system's limit of {most}" in server.log
    assert f"sysctl -w net.core.somaxconn={most + 1}" in server.log
    with served(ECHO, "--backlog", str(most)) as server:
        assert server.stop() == 0
    assert "backlog" not in server.log
