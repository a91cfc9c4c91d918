"""How a server ends: the exit code tells what became of its connections."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.serving import PATIENCE, WAYS, exactly, neverblock, served

APP = """
async def echo(stream):
    async for chunk in stream:
        await stream.send(chunk)

async def deaf(stream):
    await stream.receive_exactly(1)
    await stream.send(b"hello")
    await stream.receive_exactly(5)  # Of which one byte is there.
"""


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "app.py"
    path.write_text(APP)
    return str(path)


@pytest.mark.parametrize("how", WAYS, ids=" ".join)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_0_where_every_connection_finished(
    app: str, how: tuple[str, ...], number: signal.Signals
) -> None:
    with served(f"{app}:echo", *how) as server, server.connect() as client:
        client.sendall(b"hello")
        assert exactly(client, 5) == b"hello"
        assert server.stop(number) == 0


@pytest.mark.parametrize("how", WAYS, ids=" ".join)
def test_3_where_the_drain_timeout_ended_one(app: str, how: tuple[str, ...]) -> None:
    with (
        served(f"{app}:deaf", *how, "--drain-timeout", "0.2") as server,
        server.connect() as client,
    ):
        client.sendall(b"12")
        assert exactly(client, 5) == b"hello"
        assert server.stop() == 3
    assert "drain timeout of 0.2 s is over: 1 connection reset" in server.log


@pytest.mark.parametrize("how", WAYS, ids=" ".join)
def test_3_where_a_second_signal_ended_one(app: str, how: tuple[str, ...]) -> None:
    with (
        served(f"{app}:deaf", *how, "--drain-timeout", str(PATIENCE)) as server,
        server.connect() as client,
    ):
        client.sendall(b"12")
        assert exactly(client, 5) == b"hello"
        server.send()
        server.wait_until_logged("draining")
        assert server.stop() == 3


def test_1_where_it_failed_on_its_own(app: str, tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no device here is always full")
    path = tmp_path / "app.sock"
    command = [
        sys.executable,
        "-m",
        "neverblock",
        "serve",
        f"{app}:echo",
        "--bind",
        f"unix://{path}",
    ]
    with full.open("w") as stdout:
        failed = subprocess.run(
            [*command, "--log-format", "json"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert failed.returncode == 1
    first = json.loads(failed.stderr.splitlines()[0])
    assert first["level"] == "CRITICAL"
    assert first["message"] == "the server failed"
    assert "No space left on device" in first["exc_info"]
    assert not path.exists()


def test_2_where_it_cannot_be_started(app: str) -> None:
    assert neverblock("serve", f"{app}:absent").returncode == 2


def test_the_help_tells_the_exit_codes() -> None:
    text = " ".join(neverblock("serve", "--help").stdout.split())
    assert "0 stopped by a signal, every connection finished" in text
    assert "3 stopped, but connections had to be reset" in text
    assert "1 failed on its own" in text
    assert "2 cannot be started as asked" in text
