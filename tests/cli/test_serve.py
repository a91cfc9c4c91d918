"""``neverblock serve`` as a user runs it: the lines it prints, its signals, its refusals."""

import re
import shutil
import signal
import socket
import stat
import struct
from pathlib import Path

import pytest

from tests.servers.serving import PATIENCE, exactly, neverblock, powerless, reset, served

ECHO = "examples/echo.py:handle"

HANDLERS = '''
import asyncio

async def failing(stream):
    word = await stream.receive()
    if word == b"fail":
        raise LookupError("no such word")
    await stream.send(word)

async def lines(stream):
    while True:
        await stream.send(await stream.receive_until(b"\\n"))

async def sized(stream):
    """Messages of a length and that many bytes; answers each with its length."""
    while True:
        size = int.from_bytes(await stream.receive_exactly(4), "big")
        await stream.send(b"?")
        await stream.receive_exactly(size)
        await stream.send(size.to_bytes(4, "big"))

async def slow(stream):
    while word := await stream.receive():
        await stream.send(b"wait")
        await asyncio.sleep(0.3)
        await stream.send(word)

async def deaf(stream):
    await stream.send(b"hello")
    await asyncio.Event().wait()

def plain(stream):
    pass

async def none():
    pass

class Kind:
    async def __call__(self, stream):
        await stream.send(b"from an object")

thing = Kind()
number = 7
'''


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "app.py"
    path.write_text(HANDLERS)
    return str(path)


def ask(sock: socket.socket, data: bytes) -> bytes:
    sock.sendall(data)
    return exactly(sock, len(data))


def test_says_where_it_listens_and_serves_there(tmp_path: Path) -> None:
    binds = ("tcp://127.0.0.1:0", "tcp://[::1]:0", f"unix://{tmp_path}/echo.sock")
    with served(ECHO, binds=binds) as server:
        for line, pattern in zip(
            server.lines,
            (
                r"tcp://127\.0\.0\.1:[1-9]\d*",
                r"tcp://\[::1\]:[1-9]\d*",
                re.escape(f"unix://{tmp_path}/echo.sock"),
            ),
            strict=True,
        ):
            details = rf"\(model loop, backend \w+, pid {server.pid}\)"
            assert re.fullmatch(rf"listening on {pattern} {details}", line)
        for number in range(3):
            with server.connect(number) as client:
                assert ask(client, b"hello") == b"hello"
        assert server.stop() == 0
        assert server.process.stdout.read() == ""


def test_a_backend_may_be_named(backend: str) -> None:
    with served(ECHO, "--backend", backend) as server:
        assert f"backend {backend}," in server.lines[0]
        with server.connect() as client:
            assert ask(client, b"hello") == b"hello"


def test_a_host_name_listens_on_every_address_of_it() -> None:
    addresses = {info[4][0] for info in socket.getaddrinfo("localhost", 0)}
    with served(ECHO, binds=("tcp://localhost:0",)) as server:
        port = int(server.url.rpartition(":")[2])
        assert server.url == f"tcp://localhost:{port}"
        for address in addresses:
            with socket.create_connection((address, port), PATIENCE) as client:
                assert ask(client, b"hello") == b"hello"


def test_a_module_may_be_named(app: str) -> None:
    directory = Path(app).parent
    refused = neverblock("serve", "app:absent", cwd=directory)
    assert "app has no absent; it has failing" in refused.stderr


def test_an_object_that_is_called_may_be_the_handler(app: str) -> None:
    with served(f"{app}:thing") as server, server.connect() as client:
        assert exactly(client, 100) == b"from an object"


def test_a_failing_handler_ends_its_own_connection_only(app: str) -> None:
    with served(f"{app}:failing") as server:
        with server.connect() as bystander, server.connect() as victim:
            peer = "{}:{}".format(*victim.getsockname())
            victim.sendall(b"fail")
            assert victim.recv(10) == b""
            assert ask(bystander, b"hello") == b"hello"
        assert server.stop() == 0
        assert f"ERROR neverblock.server: handler failed, closing {peer}\n" in server.log
        assert "LookupError: no such word" in server.log
        assert server.log.count("handler failed") == 1


def test_a_client_that_hangs_up_between_messages_is_no_failure(app: str) -> None:
    with served(f"{app}:lines") as server:
        with server.connect() as client:
            assert ask(client, b"hello\n") == b"hello\n"
            client.shutdown(socket.SHUT_WR)
            assert client.recv(10) == b""
        assert server.stop() == 0
        assert "Error" not in server.log


def test_a_client_that_hangs_up_inside_a_message_is_one(app: str) -> None:
    with served(f"{app}:lines") as server:
        with server.connect() as client:
            client.sendall(b"hell")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(10) == b""
        assert server.stop() == 0
        assert "IncompleteReceiveError: input ended after 4 bytes" in server.log


def test_python_s_own_checks_find_nothing() -> None:
    """Development mode: asyncio's debug mode, and warnings of whatever was not closed."""
    with served(ECHO, python=("-X", "dev")) as server:
        with server.connect() as client, server.connect() as rude:
            assert ask(client, b"hello") == b"hello"
            reset(rude)
            assert server.stop() == 0
        [draining] = server.own_log.splitlines()
        assert "SIGTERM: draining" in draining


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_idle_connections_at_once(number: signal.Signals) -> None:
    with served(ECHO, "--drain-timeout", "600") as server:
        with server.connect() as client, server.connect() as silent:
            assert ask(client, b"hello") == b"hello"
            assert server.stop(number) == 0
            assert client.recv(10) == b""
            assert silent.recv(10) == b""
        assert f"{number.name}: draining" in server.log
        assert "abort" not in server.log


def test_a_message_that_has_begun_is_finished(app: str) -> None:
    with served(f"{app}:sized", "--drain-timeout", "600") as server:
        with server.connect() as client:
            client.sendall(struct.pack(">I", 1000) + bytes(400))
            assert client.recv(1) == b"?"
            server.send()
            server.wait_until_logged("draining")
            client.sendall(bytes(600))
            assert exactly(client, 100) == struct.pack(">I", 1000)
        assert server.wait() == 0
        assert "abort" not in server.log


def test_a_handler_at_work_is_let_finish(app: str) -> None:
    with served(f"{app}:slow", "--drain-timeout", "600") as server:
        with server.connect() as client:
            client.sendall(b"answer")
            assert exactly(client, 4) == b"wait"
            assert server.stop() == 0
            assert exactly(client, 100) == b"answer"
        assert "abort" not in server.log


def test_stragglers_are_reset_and_counted(app: str) -> None:
    with served(f"{app}:deaf", "--drain-timeout", "0.2") as server:
        with server.connect() as one, server.connect() as two, server.connect() as three:
            for client in (one, two, three):
                assert exactly(client, 5) == b"hello"
            assert server.stop() == 3
        assert "drain timeout of 0.2 s is over: 3 connections reset" in server.log


def test_a_second_signal_does_not_wait(app: str) -> None:
    with served(f"{app}:deaf", "--drain-timeout", "600") as server:
        with server.connect() as client:
            assert exactly(client, 5) == b"hello"
            server.send()
            server.wait_until_logged("draining")
            assert server.stop() == 3
        assert "told to stop again: 1 connection reset" in server.log


def test_a_stale_socket_file_is_replaced_and_ours_removed(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    bind = f"unix://{path}"
    with served(ECHO, binds=(bind,)) as server:
        server.process.kill()
        server.wait()
    assert path.is_socket()
    with served(ECHO, binds=(bind,)) as server:
        with server.connect() as client:
            assert ask(client, b"hello") == b"hello"
        assert server.stop() == 0
    assert not path.exists()


def test_a_socket_file_in_use_is_left_alone(tmp_path: Path) -> None:
    bind = f"unix://{tmp_path}/echo.sock"
    with served(ECHO, binds=(bind,)) as server:
        refused = neverblock("serve", ECHO, "--bind", bind)
        assert_refused(refused, f"cannot listen on {bind}: another server listens there; stop it")
        with server.connect() as client:
            assert ask(client, b"hello") == b"hello"


def test_a_socket_file_that_another_took_over_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    with served(ECHO, binds=(f"unix://{path}",)) as server:
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            assert server.stop() == 0
            assert path.is_socket()


def test_a_directory_that_went_away_does_not_matter(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with served(ECHO, binds=(f"unix://{place}/echo.sock",)) as server:
        shutil.rmtree(place)
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_a_file_that_is_no_socket_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    refused = neverblock("serve", ECHO, "--bind", f"unix://{path}")
    assert_refused(refused, "there is a file that is not a socket; remove it or choose another")
    assert path.read_text() == "precious"


def test_a_port_in_use_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = neverblock("serve", ECHO, "--bind", f"tcp://127.0.0.1:{port}")
    assert_refused(
        refused,
        f"cannot listen on tcp://127.0.0.1:{port}: port {port} is in use; "
        f"stop the other server or choose another port (0: any)",
    )


def test_a_refused_bind_leaves_no_socket_file_of_another(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    refused = neverblock("serve", ECHO, "--bind", f"unix://{path}", "--bind", "tcp://nowhere")
    assert_refused(refused, "cannot listen on tcp://nowhere: no port")
    assert not path.exists()


@pytest.mark.parametrize(
    ("bind", "message"),
    [
        ("7000", "write tcp://HOST:PORT or unix:///PATH"),
        ("http://127.0.0.1:7000", "write tcp://HOST:PORT or unix:///PATH"),
        ("tcp://127.0.0.1", "no port; write tcp://127.0.0.1:PORT, 0 for any free one"),
        ("tcp://[::1]", "no port; write tcp://[::1]:PORT"),
        ("tcp://:7000", "no host; write tcp://*:PORT for every address"),
        ("tcp://127.0.0.1:70000", "Port out of range"),
        ("tcp://127.0.0.1:seven", "write tcp://HOST:PORT"),
        ("tcp://[::1:7000", "write tcp://HOST:PORT"),
        ("tcp://127.0.0.1:7000/path", "only a host and a port; write tcp://127.0.0.1:7000"),
        ("tcp://192.0.2.1:0", "192.0.2.1 is not an address of this machine"),
        ("tcp://host.invalid:0", "host 'host.invalid' cannot be resolved"),
        ("unix://relative.sock", "write an absolute path, like unix:///run/app.sock"),
        ("unix:///", "write an absolute path"),
        ("unix:///no/such/place/app.sock", "no directory /no/such/place; create it"),
        (f"unix:///tmp/{'x' * 200}", "the path has 205 bytes, and an address holds 107; choose"),
    ],
)
def test_a_wrong_bind_is_refused_with_the_cure(bind: str, message: str) -> None:
    refused = neverblock("serve", ECHO, "--bind", bind)
    assert_refused(refused, f"cannot listen on {bind}: ", message)


def test_a_directory_that_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    bind = f"unix://{tmp_path}/app.sock"
    refused = neverblock("serve", ECHO, "--bind", bind, wrapper=powerless("dac_override"))
    assert_refused(refused, "no permission there; choose a directory you may write to")


def test_a_port_that_needs_a_privilege_is_refused() -> None:
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first.exists() or int(first.read_text()) <= 80:
        pytest.skip("no port needs a privilege on this system")
    bind = "tcp://127.0.0.1:80"
    refused = neverblock("serve", ECHO, "--bind", bind, wrapper=powerless("net_bind_service"))
    assert_refused(refused, "port 80 needs a privilege; choose a port from 1024 on")


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("app.py", '"app.py" names no handler; write FILE.py:NAME or MODULE:NAME'),
        ("absent.py:handle", "no file absent.py; the working directory is "),
        ("absent_module:handle", "no module absent_module; start where it can be imported"),
        ("app.py:absent", "app.py has no absent; it has failing, lines, sized, slow, deaf, thing"),
        ("app.py:number", "app.py:number is int, which cannot be called"),
        ("app.py:plain", "app.py:plain is not async; write `async def plain(stream)`"),
        ("app.py:Kind", "app.py:Kind is not async"),
        ("app.py:none", "app.py:none cannot be called with one argument"),
        (
            "broken.py:handle",
            "broken.py:2: ZeroDivisionError: division by zero; `python broken.py`",
        ),
        ("misspelt.py:handle", "misspelt.py:1: SyntaxError: "),
        ("needy.py:handle", "needy.py:1: ModuleNotFoundError: No module named 'absent_module'"),
        ("needy:handle", "needy.py:1: ModuleNotFoundError: No module named 'absent_module'"),
        ("leaving.py:handle", "leaving.py:1: SystemExit"),
    ],
)
def test_a_wrong_handler_is_refused_with_the_cure(app: str, handler: str, message: str) -> None:
    directory = Path(app).parent
    (directory / "broken.py").write_text("x = 1\nx / 0\n")
    (directory / "misspelt.py").write_text("async deaf handle(stream):\n")
    (directory / "needy.py").write_text("import absent_module\n")
    (directory / "leaving.py").write_text("raise SystemExit(0)\n")
    assert_refused(neverblock("serve", handler, cwd=directory), message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--backend", "kqueu"), 'backend "kqueu": unknown; use one of '),
        (("--backlog", "0"), "--backlog"),
        (("--drain-timeout", "-1"), "--drain-timeout"),
        (("--no-such-option",), "--no-such-option"),
    ],
)
def test_a_wrong_option_is_refused(options: tuple[str, ...], message: str) -> None:
    assert_refused(neverblock("serve", ECHO, *options), message)


def assert_refused(result, *messages: str) -> None:
    """One line that says what is wrong, exit code 2."""
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    for message in messages:
        assert message in result.stderr
