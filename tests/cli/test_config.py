"""``--config``: the same options from a file, refused with the file's name."""

import socket
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.servers.serving import ROOT, exactly, neverblock, neverblock_here, served

ECHO = f"{ROOT}/examples/echo.py:handle"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "app.toml"


def ask(client: socket.socket) -> None:
    client.sendall(b"hello")
    assert exactly(client, 5) == b"hello"


def test_a_file_alone_is_enough(file: Path) -> None:
    (file.parent / "app.py").write_text(
        "def handle(stream):\n    for chunk in stream: stream.send(chunk)\n"
    )
    file.write_text(
        textwrap.dedent(f"""
            handler = "app.py:handle"  # beside this file, wherever it is started
            bind = ["tcp://127.0.0.1:0", "unix://{file.parent}/app.sock"]
            model = "pool"
            pool-size = 3
            max_connections = 7
            drain-timeout = 5
            keepalive = 30.5
            nodelay = false
            unix-mode = "0600"
            stack-size = "512K"
            backlog = 64
            log-format = "json"
        """)
    )
    with served(None, "--config", str(file), binds=(), lines=2) as server:
        assert "model pool" in server.lines[0]
        for line in range(2):
            with server.connect(line) as client:
                ask(client)
        assert server.stop() == 0
    assert server.log.startswith("{")


def test_a_bind_may_be_one_string(file: Path) -> None:
    file.write_text('bind = "tcp://127.0.0.1:0"\n')
    with (
        served(ECHO, "--config", str(file), binds=(), lines=1) as server,
        server.connect() as client,
    ):
        ask(client)


def test_the_command_line_wins(file: Path) -> None:
    file.write_text('handler = "absent.py:handle"\nbind = "tcp://192.0.2.1:0"\nmodel = "thread"\n')
    with served(ECHO, "--config", str(file), "--model", "pool") as server:
        assert server.url.startswith("tcp://127.0.0.1:")
        assert "model pool" in server.lines[0]


def test_paths_are_relative_to_the_file(file: Path, tmp_path: Path) -> None:
    file.write_text('handler = "absent.py:handle"\n')
    refused = neverblock("serve", "--config", str(file))
    assert f"no file {tmp_path}/absent.py" in refused.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max-conections = 5", "no option max-conections; did you mean max-connections?"),
        ("zzz = 5", "no option zzz; there are handler, bind, model, "),
        ("check = true", "no option check; "),
        ("[serve]\nmodel = 'loop'", "no option serve; "),
        ("pool-size = 1\npool_size = 2", "pool-size is there twice, with a dash and with an under"),
        ("backlog = 'many'", 'backlog: must be a whole number, not "many"'),
        ("backlog = '64'", 'backlog: must be a whole number, not "64"'),
        ("backlog = 1.5", "backlog: must be a whole number, not 1.5"),
        ("backlog = true", "backlog: must be a whole number, not true"),
        ("backlog = 0", "backlog: 0 is not in the range x>=1"),
        ("keepalive = 'long'", 'keepalive: must be a number, not "long"'),
        ("keepalive = false", "keepalive: must be a number, not false"),
        ("keepalive = nan", "keepalive: must be 0 or more seconds, not nan"),
        ("nodelay = 1", "nodelay: must be true or false, not 1"),
        ("bind = 7000", "bind: must be a string, or a list of strings, not 7000"),
        ("bind = [7000]", "bind: must be a string, or a list of strings, not [7000]"),
        ("model = 'threads'", "model: 'threads' is not one of "),
        ("model = ['loop']", "model: must be a string, not ['loop']"),
        ("unix-mode = 660", 'unix-mode: must be an octal mode in quotes, like "0660", not 660'),
        ("unix-mode = '0999'", "unix-mode: write an octal mode, like 0660, not '0999'"),
        ("stack-size = 'big'", "stack-size: write bytes, like 262144"),
        ("workers = 'all'", 'workers: write a whole number or "auto"'),
        ("pool-size = 8\nmodel = 'thread'", "pool-size: the thread model has no use for it"),
        ("alpn = ['h2']", "alpn: it is for TLS, which needs a certfile; name one"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_file_s_name(
    file: Path, text: str, message: str
) -> None:
    file.write_text(text)
    refused = neverblock_here("serve", ECHO, "--config", str(file))
    assert_refused(refused, f"neverblock: {file}: {message}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"model = 'loop'\nbacklog 5\n", ":2: "),
        (b"model = 'loop'\n\n\nhandler = 'app.py", ":4: "),
        (b"model = [\n'loop'\n", ":3: "),
        (b"model = 'loop'\nmodel = 'pool'\n", ":2: "),
        (b"# \xff", ": byte 2 is not UTF-8"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(file: Path, text: bytes, line: str) -> None:
    file.write_bytes(text)
    assert_refused(
        neverblock_here("serve", ECHO, "--config", str(file)), f"neverblock: {file}{line}"
    )


def test_a_file_that_cannot_be_read_is_refused(file: Path) -> None:
    for path, reason in ((file, "No such file or directory"), (file.parent, "Is a directory")):
        refused = neverblock_here("serve", ECHO, "--config", str(path))
        assert_refused(refused, f"neverblock: {path}: {reason}; name a file that can be read")


def test_without_a_handler_it_says_so(file: Path) -> None:
    file.write_text("backlog = 5")
    refused = neverblock_here("serve", "--config", str(file))
    assert refused.returncode == 2
    assert "Missing argument" in refused.stderr


def assert_refused(result: "subprocess.CompletedProcess[str]", message: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith(message), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
