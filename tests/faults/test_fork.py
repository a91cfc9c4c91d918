"""fork(2) in a process whose loop runs: the parent goes on, the child is told or begins anew."""

import asyncio
import json
import multiprocessing
import os
import signal
import socket

import pytest

from tests.engine.loops import new_loop


def in_child(work):
    """Run work() in a forked child; returns what it returned, by way of JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.write(writing, json.dumps(work()).encode())
        except BaseException as error:
            os.write(writing, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = json.loads(file.read())
    os.waitpid(child, 0)
    return answer


async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()


async def say(reader, writer, words):
    writer.write(words)
    assert await reader.readexactly(len(words)) == words


@pytest.mark.ours("a child of asyncio's shares the parent's epoll, and changes it")
def test_the_parents_connections_go_on(run):
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await say(reader, writer, b"before")
        loop = asyncio.get_running_loop()

        def child():
            # Whatever it does to what it inherited must not reach the parent.
            answers = []
            for use in (
                lambda: loop.call_soon(print),
                lambda: loop.add_reader(0, print),
                writer.transport.pause_reading,
                writer.transport.abort,
                server.close,
            ):
                try:
                    use()
                    answers.append("done")
                except RuntimeError as error:
                    answers.append(str(error))
            return answers

        answers = in_child(child)
        assert "belongs to the process that forked this one" in answers[0]
        assert "make a new one" in answers[0]
        assert "belongs to the process" in answers[1]
        await say(reader, writer, b"after")
        await asyncio.wait_for(asyncio.sleep(0.01), 10)
        await asyncio.to_thread(int)
        reader2, writer2 = await asyncio.open_connection(*server.sockets[0].getsockname())
        await say(reader2, writer2, b"new")
        writer2.close()
        writer.close()
        server.close()
        while len(asyncio.all_tasks()) > 1:  # the server's ends
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)

    run(main)


@pytest.mark.ours("a child of asyncio's shares the parent's epoll, and changes it")
@pytest.mark.parametrize("how", ["close", "abort", "write", "write_eof"])
def test_what_was_written_before_a_fork_is_sent_once(run, how):
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())

        def child():
            try:
                if how == "write":
                    writer.write(bytes(100_000))
                else:
                    getattr(writer.transport, how)()
            except RuntimeError as error:
                assert "belongs to the process" in str(error)  # noqa: PT017
            return "done"

        if how != "write_eof":
            writer.write(b"once")
        assert in_child(child) == "done"
        writer.write(b", after")
        writer.write_eof()
        assert await reader.read() == (b", after" if how == "write_eof" else b"once, after")
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.sleep(0)

    run(main)


def test_a_child_may_run_a_loop_of_its_own(run, kind):
    async def inner():
        near, far = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=near)
        far.send(b"hello")
        answer = await reader.readexactly(5)
        writer.close()
        far.close()
        await asyncio.sleep(0.001)
        return answer.decode()

    def child():
        with asyncio.Runner(loop_factory=lambda: new_loop(kind)) as runner:
            return runner.run(inner())

    async def main():
        assert in_child(child) == "hello"
        await asyncio.sleep(0.001)

    run(main)


@pytest.mark.ours("a child of asyncio's writes its signals to the parent's socket")
def test_signals_of_a_child_do_not_reach_the_parents_loop(run):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "parent")

        def child():
            os.kill(os.getpid(), signal.SIGUSR1)
            return "sent"

        assert in_child(child) == "sent"
        for _ in range(3):
            await asyncio.sleep(0)
        assert seen == []
        os.kill(os.getpid(), signal.SIGUSR1)
        while not seen:
            await asyncio.sleep(0.001)
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main)


def answer(queue):
    queue.put(os.getpid())


def test_multiprocessing_by_fork(run):
    async def main():
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        worker = context.Process(target=answer, args=(queue,))
        worker.start()
        assert await asyncio.to_thread(queue.get) == worker.pid
        await asyncio.to_thread(worker.join)
        assert worker.exitcode == 0
        worker.close()
        queue.close()

    run(main)
