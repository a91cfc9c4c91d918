"""The standard library's own doors for a loop: Runner, run, test cases, policies."""

import asyncio
import sys
import unittest

import pytest

import neverblock

from .processes import python, started


async def running():
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


def test_runner(loop_factory, backend):
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.run(running())
        assert isinstance(loop, neverblock.Loop)
        assert loop.backend == backend
        assert runner.run(running()) is loop
    assert loop.is_closed()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="loop_factory is new in 3.12")
def test_run(loop_factory, backend):
    loop = asyncio.run(running(), loop_factory=loop_factory)
    assert loop.backend == backend
    assert loop.is_closed()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="loop_factory is new in 3.13")
def test_an_isolated_test_case(loop_factory, backend):
    class Case(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            self.server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
            self.addAsyncCleanup(self.close)

        async def answer(self, reader, writer):
            writer.write(await reader.readline())
            writer.close()

        async def close(self):
            self.server.close()
            await self.server.wait_closed()

        async def test_echo(self):
            assert asyncio.get_running_loop().backend == backend
            reader, writer = await asyncio.open_connection(*self.server.sockets[0].getsockname())
            writer.write(b"line\n")
            assert await reader.read() == b"line\n"
            writer.close()
            await writer.wait_closed()

    Case.loop_factory = staticmethod(loop_factory)
    result = unittest.TestResult()
    Case("test_echo").run(result)
    assert result.testsRun == 1
    assert result.wasSuccessful(), result.errors + result.failures


def test_an_installed_policy_serves_asyncio_run(backend):
    program = (
        "import asyncio, warnings, neverblock\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "neverblock.install()\n"
        "async def main(): return asyncio.get_running_loop()\n"
        "print('ran on', asyncio.run(main()).backend)\n"
    )
    command = python("-c", program)
    with started(*command, until=r"ran on (\w+)", NEVERBLOCK_BACKEND=backend) as (process, name):
        assert name == backend
        assert process.wait() == 0
