"""Clients that nobody here wrote, against every model: of Redis, of HTTP, of anything."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.servers.models.matrix import Bind, Serve, room
from tests.servers.serving import PATIENCE, Process
from tests.servers.tools import output

KEYVALUE = "examples/keyvalue.py:handle"


def at(bind: Bind, server: Process) -> list[str]:
    """How the clients of Redis are told where it is."""
    if bind.kind == "unix":
        return ["-s", bind.url.removeprefix("unix://")]
    port = server.url.rpartition(":")[2]
    return ["-p", port, *(["--tls", "--cacert", bind.cafile] if bind.cafile else [])]


@pytest.fixture
def keyvalue(serve: Serve, model: str) -> Iterator[Process]:
    with serve(KEYVALUE, *room(model, 30)) as server:
        yield server
        assert server.stop() == 0
        assert "ERROR" not in server.log


def test_redis_py(keyvalue: Process, bind: Bind) -> None:
    options: dict[str, object] = {"unix_socket_path": bind.url.removeprefix("unix://")}
    if bind.kind != "unix":
        options = {"port": int(keyvalue.url.rpartition(":")[2])}
    if bind.kind == "tls":
        options |= {"ssl": True, "ssl_ca_certs": bind.cafile}
    value = bytes(range(256)) * 4096
    with redis.Redis(socket_timeout=PATIENCE, **options) as client:
        assert client.set("greeting", value) is True
        assert client.get("greeting") == value
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(1000):
                pipeline.incr("n")
            assert pipeline.execute() == list(range(1, 1001))


def test_redis_cli(keyvalue: Process, bind: Bind) -> None:
    where = at(bind, keyvalue)
    assert output("redis-cli", *where, "ping") == "PONG\n"
    assert output("redis-cli", *where, given="set k 'hello world'\nget k\nincr n\n") == (
        "OK\nhello world\n1\n"
    )
    commands = "".join(f"SET key{number} value{number}\r\n" for number in range(1000))
    assert "errors: 0, replies: 1000" in output("redis-cli", *where, "--pipe", given=commands)


def test_redis_benchmark(keyvalue: Process, model: str, bind: Bind) -> None:
    clients = 1 if model == "iterative" else 20
    said = output(
        "redis-benchmark",
        *at(bind, keyvalue),
        *("--csv", "-n", "2000", "-c", str(clients), "-P", "4", "-t", "ping,set,get,incr"),
    )
    rows = [line.split(",")[0].strip('"') for line in said.splitlines()]
    assert rows[1:] == ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR"]


def test_socat(serve: Serve, bind: Bind) -> None:
    with serve("whole") as server:
        scheme, _, where = server.url.partition("://")
        peer = f"UNIX-CONNECT:{where}" if scheme == "unix" else f"TCP:{where}"
        if bind.kind == "tls":
            peer = f"OPENSSL:{where},cafile={bind.cafile}"
        text = "hello, socat\n" * 10_000
        # It ends its half, then waits for the answer.
        assert output("socat", f"-t{PATIENCE:g}", "-", peer, given=text) == text
        assert server.stop() == 0


def test_curl(serve: Serve, bind: Bind, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_text("0123456789" * 100_000)
    with serve("http") as server:
        base = "http://localhost"
        where = ["--unix-socket", bind.url.removeprefix("unix://")]
        if bind.kind != "unix":
            where = ["--noproxy", "*"]
            base = server.url.replace("tcp://", "https://" if bind.cafile else "http://")
        if bind.kind == "tls":
            where += ["--cacert", bind.cafile]
        options = (*where, "--silent", "--show-error", "--fail")
        # Two of them over one connection.
        assert output("curl", *options, f"{base}/a", f"{base}/b") == "get /a\nget /b\n"
        answer = output("curl", *options, "--data-binary", f"@{body}", f"{base}/c")
        assert answer == body.read_text()
        assert server.stop() == 0
        assert "ERROR" not in server.log
