"""pytest-asyncio's hook for loop factories, in a pytest of its own."""

import subprocess
import sys

import pytest

pytest.importorskip("pytest_asyncio", reason="pytest-asyncio is not installed")

CONFTEST = """
import neverblock

def pytest_asyncio_loop_factories(config, item):
    return {"neverblock": neverblock.new_event_loop}
"""
TESTS = """
import asyncio, pytest, pytest_asyncio

@pytest_asyncio.fixture
async def server():
    async def answer(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()
    await server.wait_closed()

async def test_echo(server):
    assert type(asyncio.get_running_loop()).__module__ == "neverblock.loop"
    reader, writer = await asyncio.open_connection(*server)
    writer.write(b"line\\n")
    assert await reader.read() == b"line\\n"
    writer.close()
    await writer.wait_closed()
"""


def test_the_hook_takes_our_factory(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_echo.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
