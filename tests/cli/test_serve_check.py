"""``neverblock serve --check``: says whether it could be served, and takes nothing for it."""

import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.servers.serving import exactly, neverblock, powerless, served

ECHO = "examples/echo.py:handle"


def test_what_can_be_served_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    binds = ("--bind", "tcp://127.0.0.1:7000", "--bind", f"unix://{path}", "--bind", "tcp://*:0")
    checked = neverblock("serve", ECHO, "--check", "--model", "thread", *binds)
    assert checked.stdout == (
        f"ok: {ECHO} under the thread model on tcp://127.0.0.1:7000, unix://{path}, tcp://*:0\n"
    )
    assert checked.stderr == ""
    assert checked.returncode == 0
    assert not path.exists()


def test_a_file_of_options_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "app.toml"
    (tmp_path / "app.py").write_text("async def handle(stream): pass\n")
    file.write_text('handler = "app.py:handle"\nbind = "tcp://127.0.0.1:7000"\n')
    checked = neverblock("serve", "--check", "--config", str(file))
    assert checked.returncode == 0
    assert checked.stdout.startswith(f"ok: {tmp_path}/app.py:handle under the loop model on tcp://")


def test_no_file_is_left_behind(tmp_path: Path) -> None:
    outputs = [f"--stall-log={tmp_path}/s.jsonl", f"--stall-profile={tmp_path}/s.folded"]
    checked = neverblock("serve", ECHO, "--check", *outputs, f"--metrics-file={tmp_path}/s.prom")
    assert checked.returncode == 0, checked.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_runs_there_is_not_disturbed(tmp_path: Path) -> None:
    """Not even by a connection: the one that the only slot serves is ours."""
    path = tmp_path / "app.sock"
    binds = ("tcp://127.0.0.1:0", f"unix://{path}")
    app = tmp_path / "app.py"
    app.write_text(
        "served = 0\n"
        "async def handle(stream):\n"
        "    global served\n"
        "    served += 1\n"
        "    await stream.send(b'%d' % served)\n"
    )
    with served(f"{app}:handle", binds=binds) as server:
        inode = path.stat().st_ino
        for line in server.lines:
            url = line.split()[2]
            checked = neverblock("serve", ECHO, "--check", "--bind", url)
            assert checked.returncode == 0, checked.stderr
        assert path.stat().st_ino == inode
        for line in range(2):
            with server.connect(line) as client:
                assert exactly(client, 10) == str(line + 1).encode()
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("bind", "message"),
    [
        ("7000", "write tcp://HOST:PORT or unix:///PATH"),
        ("tcp://192.0.2.1:7000", "192.0.2.1 is not an address of this machine"),
        ("tcp://host.invalid:0", "host 'host.invalid' cannot be resolved"),
        ("unix:///no/such/place/app.sock", "no directory /no/such/place; create it"),
        ("unix:///dev/null/app.sock", "no directory /dev/null; create it"),
        ("unix:///dev/null", "there is a file that is not a socket"),
        (f"unix:///tmp/{'x' * 200}", "choose a shorter path"),
    ],
)
def test_a_bind_that_cannot_be_had_is_refused(bind: str, message: str) -> None:
    assert_refused(neverblock("serve", ECHO, "--check", "--bind", bind), message)


def test_a_directory_that_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    command = ("serve", ECHO, "--check", "--bind", f"unix://{tmp_path}/app.sock")
    refused = neverblock(*command, wrapper=powerless("dac_override"))
    assert_refused(refused, "no permission there; choose a directory you may write to")


def test_a_port_that_needs_a_privilege_is_refused() -> None:
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first.exists() or int(first.read_text()) <= 80:
        pytest.skip("no port needs a privilege on this system")
    command = ("serve", ECHO, "--check", "--bind", "tcp://127.0.0.1:80")
    refused = neverblock(*command, wrapper=powerless("net_bind_service"))
    assert_refused(refused, "port 80 needs a privilege; choose a port from 1024 on")
    if os.geteuid() == 0:
        assert neverblock(*command).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.py:handle",), "no file absent.py"),
        (("examples/echo.py:absent",), "examples/echo.py has no absent"),
        ((ECHO, "--backend", "kqueu"), 'backend "kqueu": unknown'),
        ((ECHO, "--stall-log", "absent/s.jsonl"), "--stall-log: cannot write "),
        ((ECHO, "--stall-log", "/dev/null/s.jsonl"), "--stall-log: cannot write "),
        ((ECHO, "--stall-log", "/"), "--stall-log: cannot write "),
        ((ECHO, "--keyfile", "key.pem"), "--keyfile: it is for TLS, which needs a --certfile"),
    ],
)
def test_what_else_is_wrong_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert_refused(neverblock("serve", "--check", *arguments), message)


def test_an_address_in_use_by_another_is_no_obstacle() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        assert neverblock("serve", ECHO, "--check", "--bind", bind).returncode == 0


def assert_refused(result: "subprocess.CompletedProcess[str]", message: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
