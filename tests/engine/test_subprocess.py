"""Subprocesses: pipes both ways, exit codes, signals, children that go early."""

import asyncio
import asyncio.subprocess as asp
import signal
import sys
from contextlib import suppress

import pytest

from .wire import pattern

PIPE = asp.PIPE


def test_communicate_much_both_ways(run):
    async def main():
        data = pattern(5_000_000)
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        out, err = await process.communicate(data)
        assert out == data
        assert err is None
        assert process.returncode == 0

    run(main)


def test_output_and_errors_apart(run):
    async def main():
        source = "import sys; sys.stdout.write('o' * 300_000); sys.stderr.write('e' * 300_000)"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", source, stdout=PIPE, stderr=PIPE
        )
        out, err = await process.communicate()
        assert out == b"o" * 300_000
        assert err == b"e" * 300_000

    run(main)


def test_a_conversation(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        for n in range(200):
            process.stdin.write(b"line %d\n" % n)
            assert await process.stdout.readline() == b"line %d\n" % n
        process.stdin.close()
        assert await process.stdout.read() == b""
        assert await process.wait() == 0
        assert await process.wait() == 0

    run(main)


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_codes(run, code):
    async def main():
        process = await asyncio.create_subprocess_shell(f"exit {code}")
        assert await process.wait() == code

    run(main)


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_ending_by_signal(run, how):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "100", stdin=PIPE, stdout=PIPE)
        getattr(process, how)()
        expected = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM}[how]
        assert await process.wait() == -expected
        # From 3.14 on this may go unheard.
        heard = suppress if sys.version_info >= (3, 14) else pytest.raises
        with heard(ProcessLookupError):
            process.kill()
        process._transport.close()

    run(main)


def test_a_child_that_does_not_read_its_input(run):
    async def main():
        process = await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        out, _ = await process.communicate(bytes(5_000_000))
        assert out == b""
        assert process.returncode == 0

    run(main)


def test_a_child_whose_input_is_closed_at_once(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        process.stdin.close()
        out, _ = await process.communicate()
        assert out == b""
        await process.wait()

    run(main)


def test_a_grandchild_that_keeps_the_pipe_open(run):
    """The child ends; its output ends only when the one it left behind ends too."""

    async def main():
        process = await asyncio.create_subprocess_shell(
            "(read line; echo late) <&3 & echo early", stdin=PIPE, stdout=PIPE
        )
        process.stdin.close()
        out, _ = await process.communicate()
        assert out.splitlines()[0] == b"early"
        assert process.returncode == 0

    run(main)


def test_a_program_that_does_not_exist(run, descriptors):
    async def main():
        before = descriptors().keys()
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec("no-such-program", stdin=PIPE, stdout=PIPE)
        return before == descriptors().keys()

    assert run(main)


def test_many_at_once(run):
    async def main():
        async def one(n):
            process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            out, _ = await process.communicate(b"%d" % n)
            return out

        results = await asyncio.gather(*(one(n) for n in range(30)))
        assert results == [b"%d" % n for n in range(30)]

    run(main)


def test_what_the_transport_tells(run):
    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, "cat", stdout=PIPE, stdin=PIPE, stderr=None
        )
        assert transport.get_pid() == transport.get_extra_info("subprocess").pid
        assert transport.get_returncode() is None
        stdin = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
        assert transport.get_pipe_transport(2) is None
        assert stdin.get_extra_info("pipe") is not None
        transport.kill()
        await transport._wait()
        transport.close()
        await asyncio.sleep(0.01)
        assert isinstance(protocol, asyncio.SubprocessProtocol)

    run(main)


def test_the_callbacks_of_a_protocol(run):
    async def main():
        loop = asyncio.get_running_loop()

        class Protocol(asyncio.SubprocessProtocol):
            def __init__(self):
                self.calls = []
                self.data = bytearray()
                self.lost = loop.create_future()

            def connection_made(self, transport):
                self.calls.append("made")

            def pipe_data_received(self, fd, data):
                assert fd == 1
                self.data += data

            def pipe_connection_lost(self, fd, exc):
                self.calls.append(f"pipe {fd} lost")

            def process_exited(self):
                self.calls.append("exited")

            def connection_lost(self, exc):
                self.lost.set_result(exc)

        transport, protocol = await loop.subprocess_exec(
            Protocol, "echo", "hello", stdin=None, stdout=PIPE, stderr=None
        )
        assert await protocol.lost is None
        assert protocol.data == b"hello\n"
        assert protocol.calls[0] == "made"
        assert sorted(protocol.calls[1:]) == ["exited", "pipe 1 lost"]
        assert transport.get_returncode() == 0
        transport.close()

    run(main)


def test_a_cancelled_wait_leaves_the_child_to_be_waited_for(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), 0.01)
        process.stdin.close()
        assert await process.wait() == 0

    run(main)
