"""TLS under every model: what the models' shared suite, which runs over TLS too, leaves open."""

import random
import re
import select
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from neverblock.servers import MODELS
from tests.servers.serving import PATIENCE, Process, exactly, reset, served
from tests.servers.tls.client import ClientSocket
from tests.servers.tls.conftest import Authority
from tests.servers.wire import ask, everything

HANDLERS = '''
async def echo(stream):
    async for chunk in stream:
        await stream.send(chunk)

async def whole(stream):
    """Answers with all that came, once the client has ended its half."""
    data = bytearray()
    async for chunk in stream:
        data += chunk
    await stream.send(data)

async def told(stream):
    await stream.send(repr(stream.info.tls).encode())

async def flood(stream):
    """Sends for as long as somebody takes it."""
    await stream.send(b"x" * 100_000_000)

async def closing(stream):
    await stream.send(b"bye")
    await stream.aclose()

async def streams(reader, writer):
    writer.write((await reader.read()).upper())
    writer.write_eof()
    await writer.drain()
    writer.close()

def plain(stream):
    for chunk in stream:
        stream.send(chunk)
'''

DATA = random.Random(1).randbytes(10_000_000)


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "app.py"
    path.write_text(HANDLERS)
    return str(path)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["tcp", "unix"])
def bind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix://{tmp_path}/app.sock"


@pytest.fixture
def tls(authority: Authority) -> tuple[str, ...]:
    return ("--certfile", authority.certfile, "--keyfile", authority.keyfile)


@pytest.fixture
def connect(authority: Authority) -> Callable[[Process], ClientSocket]:
    return lambda server: ClientSocket(server.connect(), authority.client())


Connect = Callable[[Process], ClientSocket]


def test_says_that_it_speaks_tls(app: str, model: str, tls: tuple[str, ...]) -> None:
    with served(f"{app}:echo", "--model", model, *tls) as server:
        assert re.search(rf" \(model {model}(, backend \w+)?, TLS, pid \d+\)$", server.lines[0])
        assert server.url.startswith("tcp://")
        assert server.stop() == 0


def test_a_client_may_leave_without_a_word(
    app: str, model: str, tls: tuple[str, ...], connect: Connect
) -> None:
    """The end of its bytes counts as the end of its input, as in Python's own ssl."""
    with served(f"{app}:whole", "--model", model, *tls) as server:
        with connect(server) as client:
            client.sendall(b"that is all")
            client.sock.shutdown(socket.SHUT_WR)
            assert everything(client) == b"that is all"
        assert server.stop() == 0


def test_a_close_says_goodbye(app: str, model: str, tls: tuple[str, ...], connect: Connect) -> None:
    with served(f"{app}:closing", "--model", model, *tls) as server:
        with connect(server) as client:
            assert everything(client) == b"bye"  # Or ClientSocket raises.
        assert server.stop() == 0


def test_python_s_own_client(
    app: str, model: str, tls: tuple[str, ...], authority: Authority
) -> None:
    with served(f"{app}:echo", "--model", model, *tls) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = authority.client(version=version)
            with context.wrap_socket(server.connect(), server_hostname="localhost") as client:
                client.sendall(b"hello")
                assert exactly(client, 5) == b"hello"
                client.unwrap().close()
        assert server.stop() == 0
        assert "ERROR" not in server.log


def test_what_is_known_of_a_connection(
    app: str, model: str, tls: tuple[str, ...], authority: Authority
) -> None:
    options = ("--client-ca", authority.client_ca, "--alpn", "h2", "--alpn", "echo")
    context = authority.client(name="alice", alpn=("echo", "other"))
    with (
        served(f"{app}:told", "--model", model, *tls, *options) as server,
        ClientSocket(server.connect(), context) as client,
    ):
        told = everything(client).decode()
        cipher, *_ = client.tls.object.cipher()
    assert told.startswith(
        f"TlsInfo(version='TLSv1.3', cipher={cipher!r}, alpn='echo', certificate={{'subject': "
    )
    assert "(('commonName', 'alice'),)" in told


def test_no_client_without_a_certificate(
    app: str, model: str, tls: tuple[str, ...], connect: Connect, authority: Authority
) -> None:
    with served(
        f"{app}:echo", "--model", model, *tls, "--client-ca", authority.client_ca
    ) as server:
        # Under TLS 1.3 the client is done before the server has seen its certificate, or none.
        with connect(server) as stranger, pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            stranger.recv(1)
        with ClientSocket(server.connect(), authority.client(name="bob")) as client:
            assert ask(client, b"hello") == b"hello"
        assert server.stop() == 0
        assert server.log.count("failed: the peer showed no certificate\n") == 1
        assert "Traceback" not in server.log


def test_a_handshake_that_fails_costs_its_own_connection(
    app: str, model: str, bind: str, tls: tuple[str, ...], connect: Connect
) -> None:
    with served(f"{app}:echo", "--model", model, *tls, binds=(bind,)) as server:
        with server.connect() as http:
            http.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert http.recv(100) == b""
        with server.connect() as short:
            short.sendall(b"\x16\x03\x01\x02\x00\x01")
            short.shutdown(socket.SHUT_WR)
            assert short.recv(100) == b""
        if bind.startswith("tcp"):
            rude = server.connect()
            rude.sendall(b"\x16\x03\x01")
            reset(rude)
        with connect(server) as client:
            assert ask(client, b"hello") == b"hello"
        assert server.stop() == 0
        [line] = [line for line in server.log.splitlines() if "handshake" in line]
        assert " INFO neverblock.server: TLS handshake with " in line
        assert line.endswith(" failed: the peer speaks plain HTTP")
        assert "ERROR" not in server.log
        assert "Traceback" not in server.log


def test_a_signal_ends_what_waits_for_a_handshake(
    app: str, model: str, bind: str, tls: tuple[str, ...], connect: Connect
) -> None:
    options = ("--model", model, "--drain-timeout", "600")
    with served(f"{app}:echo", *options, *tls, binds=(bind,)) as server:
        with ExitStack() as opened:
            if model != "iterative":
                client = opened.enter_context(connect(server))
                assert ask(client, b"hello") == b"hello"
            silent = opened.enter_context(server.connect())
            begun = opened.enter_context(server.connect())
            begun.sendall(b"\x16\x03\x01")
            if model != "iterative":
                last = opened.enter_context(connect(server))  # Those before it are accepted.
                assert ask(last, b"hello") == b"hello"
            assert server.stop() == 0
            if model != "iterative":
                assert client.recv(1) == b""
                assert silent.recv(1) == b""
        assert "reset" not in server.log
        assert "handshake" not in server.log
        assert "ERROR" not in server.log


def test_who_does_not_read_is_reset_in_the_end(
    app: str, model: str, tls: tuple[str, ...], connect: Connect
) -> None:
    with served(f"{app}:flood", "--model", model, *tls, "--drain-timeout", "0.2") as server:
        with connect(server) as client:
            assert exactly(client, 1000) == b"x" * 1000
            server.stop()
        assert "1 connection reset" in server.log


def test_who_says_nothing_is_closed_in_time(
    app: str, model: str, tls: tuple[str, ...], connect: Connect
) -> None:
    with served(f"{app}:echo", "--model", model, *tls, "--idle-timeout", "0.3") as server:
        with connect(server) as client:
            assert ask(client, b"hello") == b"hello"
            with pytest.raises((ConnectionResetError, EOFError)):
                client.recv(1)
        server.wait_until_logged("idle for 0.3 s")
        assert server.stop() == 0


@pytest.mark.parametrize("model", ["loop", "thread"])
def test_a_handshake_is_not_the_handler_s_time(
    app: str, model: str, tls: tuple[str, ...], authority: Authority
) -> None:
    with served(f"{app}:echo", "--model", model, *tls, "--handler-timeout", "0.5") as server:
        with server.open() as raw:
            select.select([raw], [], [], 0.8)  # For longer than that, it does not begin.
            assert ask(ClientSocket(raw, authority.client()), b"hello") == b"hello"
        assert server.stop() == 0
        assert "longer" not in server.log


def test_offloaded(app: str, tls: tuple[str, ...], connect: Connect) -> None:
    with served(f"{app}:plain", "--offload", *tls) as server, connect(server) as client:
        assert ask(client, DATA[:100_000]) == DATA[:100_000]


def test_a_reader_and_a_writer(app: str, tls: tuple[str, ...], connect: Connect) -> None:
    with served(f"{app}:streams", *tls, "--drain-timeout", "600") as server:
        with connect(server) as client:
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert everything(client) == b"QUESTION"
        with server.connect() as silent, connect(server):
            assert server.stop() == 0
            assert silent.recv(1) == b""
        assert "ERROR" not in server.log


@pytest.mark.parametrize("backend", ["poll", "select"])
def test_other_backends(app: str, backend: str, tls: tuple[str, ...], connect: Connect) -> None:
    with served(f"{app}:whole", "--backend", backend, *tls) as server, connect(server) as client:
        client.sendall(DATA)
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == DATA


def test_openssl_s_own_client(
    app: str, model: str, bind: str, tls: tuple[str, ...], authority: Authority
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH")
    with served(f"{app}:echo", "--model", model, *tls, binds=(bind,)) as server:
        place = server.url.partition("://")[2]
        where = ("-connect", place) if bind.startswith("tcp") else ("-unix", place)
        command = [openssl, "s_client", *where, "-quiet", "-CAfile", authority.client_ca]
        command += ["-verify_return_error", "-verify_hostname", "localhost"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as client:
            try:
                assert client.stdin is not None
                assert client.stdout is not None
                for line in (b"hello\n", b"world\n"):
                    client.stdin.write(line)
                    client.stdin.flush()
                    assert client.stdout.readline() == line
                assert server.stop() == 0  # It drains: openssl reads the end.
                assert client.wait(PATIENCE) == 0
            finally:
                client.kill()
