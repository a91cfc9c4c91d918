"""Sockets that somebody else opened: systemd's socket activation, and everything like it."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.serving import PATIENCE, ROOT, WAYS, exactly, neverblock, served
from tests.servers.wrappers import activated

ECHO = "examples/echo.py:handle"

#: Answers with what a child of the handler is given: variables, and descriptors past the third.
CHILD = """
import subprocess

async def handle(stream):
    script = 'env | grep ^LISTEN_; ls -l /proc/self/fd | grep socket; echo done'
    await stream.send(subprocess.run(["sh", "-c", script], capture_output=True).stdout)
"""


def ask(client: socket.socket) -> None:
    client.sendall(b"hello")
    assert exactly(client, 5) == b"hello"


@pytest.mark.parametrize("how", WAYS, ids=" ".join)
def test_sockets_that_were_passed_on_are_served(how: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    given = activated("web=tcp=127.0.0.1", "six=tcp6=::1", f"ctl=unix={path}")
    with served(ECHO, *how, binds=(), lines=3, wrapper=given) as server:
        assert [line.split()[2].rpartition(":")[0] for line in server.lines] == [
            "tcp://127.0.0.1",
            "tcp://[::1]",
            "unix",
        ]
        for line in range(3):
            with server.connect(line) as client:
                ask(client)
        assert server.stop() == 0
        assert "Traceback" not in server.log
    assert path.is_socket()  # Whoever made it will pass it on again.


def test_one_may_be_named_by_number_or_name() -> None:
    given = activated("web=tcp=127.0.0.1", "six=tcp6=::1", "other=tcp=127.0.0.2")
    with served(ECHO, binds=("fd://six", "fd://3"), wrapper=given) as server:
        assert server.lines[0].startswith("listening on tcp://[::1]:")
        assert server.lines[1].startswith("listening on tcp://127.0.0.1:")
        for line in range(2):
            with server.connect(line) as client:
                ask(client)
        assert server.stop() == 0
    assert "not served, of the sockets that were passed on: fd://5 (other);" in server.log


def test_a_name_may_be_that_of_several() -> None:
    given = activated("web=tcp=127.0.0.1", "other=tcp=127.0.0.1", "web=tcp6=::1")
    with served(ECHO, binds=("fd://web",), lines=2, wrapper=given) as server:
        for line in range(2):
            with server.connect(line) as client:
                ask(client)


def test_a_server_beside_a_program_tells_all_of_a_name() -> None:
    program = """
import neverblock

async def handle(stream): pass

with neverblock.Server(handle, "fd://web") as server:
    print(*server.urls)
"""
    given = activated("web=tcp=127.0.0.1", "web=tcp6=::1")
    done = subprocess.run(
        [*given, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert [url.rpartition(":")[0] for url in done.stdout.split()] == [
        "tcp://127.0.0.1",
        "tcp://[::1]",
    ]


def test_others_may_be_opened_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    binds = (f"unix://{path}", "tcp://127.0.0.1:0", "fd://3")
    with served(ECHO, binds=binds, wrapper=activated("web=tcp=127.0.0.2")) as server:
        assert server.lines[2].startswith("listening on tcp://127.0.0.2:")
        for line in range(3):
            with server.connect(line) as client:
                ask(client)
        assert server.stop() == 0
    assert not path.exists()


def test_an_abstract_name_is_served() -> None:
    name = f"neverblock-test-{os.getpid()}"
    given = activated(f"web=abstract={name}")
    with served(ECHO, binds=(), lines=1, wrapper=given) as server:
        assert server.lines[0].startswith(f"listening on unix://@{name} ")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(b"\0" + name.encode())
            ask(client)
        assert server.stop() == 0


def test_no_child_is_given_them(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(CHILD)
    given = activated("web=tcp=127.0.0.1", "six=tcp6=::1")
    with (
        served(f"{app}:handle", binds=(), lines=2, wrapper=given) as server,
        server.connect() as client,
    ):
        assert exactly(client, 1000) == b"done\n"


def test_what_is_meant_for_another_process_is_left_alone(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(CHILD)
    other = ("env", "LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=web")
    binds = ("tcp://127.0.0.1:0",)
    with served(f"{app}:handle", binds=binds, wrapper=other) as server, server.connect() as client:
        assert exactly(client, 1000) == b"done\n"
    refused = neverblock("serve", ECHO, "--bind", "fd://web", wrapper=other)
    assert_refused(refused, "no socket of that name was passed on; there is none at all")


def test_a_check_that_is_given_none_does_without_them() -> None:
    """systemd gives sockets to ExecStart= alone, and ExecStartPre= is where it is checked."""
    binds = ("--bind", "fd://web", "--bind", "fd://3", "--bind", "tcp://127.0.0.1:0")
    checked = neverblock("serve", ECHO, "--check", *binds)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout == (
        f"ok: {ECHO} under the loop model on fd://web (if it is passed on), "
        "fd://3 (if it is passed on), tcp://127.0.0.1:0\n"
    )
    refused = neverblock("serve", ECHO, "--check", "--bind", "fd://")
    assert_refused(refused, "write the number or the name of a socket, like fd://3")


@pytest.mark.parametrize(
    ("sockets", "bind", "message"),
    [
        (("a=udp=",), None, "fd://3: it is no stream socket; pass on one (ListenStream=)"),
        (("a=deaf=",), None, "fd://3: it does not listen; pass on one that does (Accept=no)"),
        (("a=file=",), None, "fd://3: no socket was passed on as that (Socket operation on non"),
        (("a=tcp=127.0.0.1",), "fd://b", "no socket of that name was passed on; there is a"),
        (("a=tcp=127.0.0.1",), "fd://99", "fd://99: no socket was passed on as that (Bad file"),
        (("a=tcp=127.0.0.1",), f"fd://{10**30}", "no socket was passed on as that ("),
        (("a=tcp=127.0.0.1",), "fd://", "write the number or the name of a socket, like fd://3"),
    ],
)
def test_what_cannot_be_served_is_refused(
    sockets: tuple[str, ...], bind: str | None, message: str
) -> None:
    binds = ("--bind", bind) if bind is not None else ()
    for check in ((), ("--check",)):
        refused = neverblock("serve", ECHO, *binds, *check, wrapper=activated(*sockets))
        assert_refused(refused, message)


def test_one_that_is_named_twice_is_refused() -> None:
    refused = neverblock(
        "serve", ECHO, "--bind", "fd://a", "--bind", "fd://3", wrapper=activated("a=tcp=127.0.0.1")
    )
    assert_refused(refused, "cannot listen on fd://3: it is named twice; name it once")


def test_a_count_that_is_none_is_refused() -> None:
    mistaken = ("sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=many exec "$@"', "sh")
    refused = neverblock("serve", ECHO, wrapper=mistaken)
    assert_refused(refused, "LISTEN_FDS is 'many', which is no number of sockets")


def test_systemd_s_own_tool_activates_it(tmp_path: Path) -> None:
    if shutil.which("systemd-socket-activate") is None:
        pytest.skip("systemd-socket-activate(1) is not there")
    path = tmp_path / "app.sock"
    command = ["systemd-socket-activate", "--listen", str(path), "--fdname", "web"]
    command += [f"--setenv={name}" for name in os.environ]  # Or little of it is passed on.
    command += [sys.executable, "-m", "neverblock", "serve", ECHO, "--bind", "fd://web"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stdout is not None
            assert "Listening on" in process.stderr.readline()
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                client.connect(str(path))  # It starts for the first client.
                ask(client)
            assert process.stdout.readline().startswith(f"listening on unix://{path} ")
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    assert path.is_socket()


def assert_refused(result: "subprocess.CompletedProcess[str]", message: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
