"""fork(2) where it hurts: children that stay in the loop, leave it by exceptions, or clean up.

Each program forks inside a callback of a loop that serves connections; afterwards the parent
checks that all of it still works.
"""

import pytest

PARENT = """
import asyncio, gc, os, signal, socket, sys, threading, time, warnings
from tests.engine.loops import new_loop
warnings.simplefilter("ignore")

async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()

async def say(reader, writer, words):
    writer.write(words)
    assert await reader.readexactly(len(words)) == words

async def serve(fork):
    loop = asyncio.get_running_loop()
    parent = os.getpid()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address)
    await say(reader, writer, b"before")
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    pid = await fork(loop, reader, writer, server)
    assert os.getpid() == parent, "a child came back"
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    # Everything goes on: the old connection, new ones, timers, threads, signals.
    await say(reader, writer, b"after")
    more = await asyncio.open_connection(*address)
    await say(*more, b"new")
    more[1].close()
    await asyncio.sleep(0.001)
    assert await asyncio.to_thread(int) == 0
    got = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, got.set_result, "signal")
    os.kill(os.getpid(), signal.SIGUSR1)
    assert await asyncio.wait_for(got, 10) == "signal"
    loop.remove_signal_handler(signal.SIGUSR1)
    writer.close()
    server.close()
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.001)
    print("parent", os.waitstatus_to_exitcode(status), flush=True)

def run(fork):
    with asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])) as runner:
        return runner.run(serve(fork))
"""


def check(program, source):
    done = program(PARENT + source, timeout=40)
    assert done.returncode == 0, done.stderr
    assert "Fatal" not in done.stderr
    assert "parent" in done.stdout, (done.stdout, done.stderr)
    return done


def test_a_child_that_stays_in_the_parents_loop_is_told(program, kind):
    """It comes back from its callback into a loop that is not its own."""
    if kind == "asyncio":
        pytest.skip("a child of asyncio's takes the parent's events away")
    done = check(
        program,
        """
async def fork(loop, reader, writer, server):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        await asyncio.sleep(0)  # in the loop of the parent
        await asyncio.sleep(100)
    return pid

try:
    run(fork)
except RuntimeError as error:
    print("child", error, flush=True)
    os._exit(7)
""",
    )
    assert "parent 7" in done.stdout, (done.stdout, done.stderr)
    assert "belongs to the process that forked this one" in done.stdout


def test_what_was_queued_at_the_fork_is_done_by_the_parent_alone(program, kind):
    """Though the child comes back into the loop: callbacks, bytes, coroutines to be cleaned up."""
    if kind == "asyncio":
        pytest.skip("a child of asyncio's takes the parent's events away")
    done = check(
        program,
        """
async def waiting():
    try:
        await asyncio.sleep(0)
    finally:
        print("cleaned up", flush=True)

async def fork(loop, reader, writer, server):
    loop.create_task(waiting())
    await asyncio.sleep(0)
    loop.call_soon(lambda: print("called", flush=True))
    writer.write(b"once")
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        await asyncio.sleep(100)
    assert await reader.readexactly(4) == b"once"
    return pid

try:
    run(fork)
except RuntimeError as error:
    print("child", error, flush=True)
    os._exit(7)
""",
    )
    assert "parent 7" in done.stdout, (done.stdout, done.stderr)
    assert "belongs to the process that forked this one" in done.stdout
    assert done.stdout.count("called") == 1
    assert done.stdout.count("cleaned up") == 1


@pytest.mark.ours("a child of asyncio's closes the parent's watches")
@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt", "ValueError"])
def test_a_child_that_leaves_by_an_exception_does_no_harm(program, error):
    """The exception unwinds asyncio.run in the child, which cancels, shuts down and closes."""
    check(
        program,
        f"""
async def fork(loop, reader, writer, server):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        raise {error}
    return pid

parent = os.getpid()
try:
    run(fork)
except BaseException as error:
    if os.getpid() == parent:
        raise
    os._exit(3)
""",
    )


def test_a_child_that_ends_at_once_does_no_harm(program):
    done = check(
        program,
        """
async def fork(loop, reader, writer, server):
    pid = os.fork()
    if pid == 0:
        os._exit(5)
    return pid

run(fork)
""",
    )
    assert "parent 5" in done.stdout


@pytest.mark.ours("a child of asyncio's closes the parent's watches")
def test_a_child_that_drops_everything_does_no_harm(program):
    """References cleared, the collector run, the interpreter shut down in order."""
    check(
        program,
        """
async def fork(loop, reader, writer, server):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        gc.collect()
        writer.transport.abort()
        server.close()
        loop.close if loop.is_closed() else None
        threading.Thread(target=int).start()
        raise SystemExit(0)
    return pid

run(fork)
""",
    )


@pytest.mark.ours("a child of asyncio's closes the parent's watches")
def test_a_child_that_closes_the_loop_does_no_harm(program):
    check(
        program,
        """
async def fork(loop, reader, writer, server):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            loop.close()
        except RuntimeError:
            pass
        loop.stop()
        os._exit(0)
    return pid

run(fork)
""",
    )


def test_a_fork_by_another_thread_while_the_loop_waits(program):
    check(
        program,
        """
async def fork(loop, reader, writer, server):
    def in_thread():
        time.sleep(0.02)  # the loop is in its wait
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            async def hello():
                await asyncio.sleep(0.001)
                return "hello"
            with asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])) as runner:
                assert runner.run(hello()) == "hello"
            os._exit(0)
        return pid
    return await loop.run_in_executor(None, in_thread)

run(fork)
""",
    )


def test_many_forks_in_a_row(program):
    check(
        program,
        """
async def fork(loop, reader, writer, server):
    for n in range(20):
        pid = os.fork()
        if pid == 0:
            async def hello():
                await asyncio.sleep(0)
            asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])).run(hello())
            os._exit(0)
        if n < 19:
            os.waitpid(pid, 0)
            await say(reader, writer, b"%d" % n)
    return pid

run(fork)
""",
    )


def test_a_pool_of_forked_workers(program):
    check(
        program,
        """
import concurrent.futures, multiprocessing

def work(n):
    async def inner():
        await asyncio.sleep(0.001)
        return n * n
    return asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])).run(inner())

async def fork(loop, reader, writer, server):
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        jobs = [loop.run_in_executor(pool, work, n) for n in range(10)]
        for n in range(50):
            await say(reader, writer, b"%d" % n)
        assert await asyncio.gather(*jobs) == [n * n for n in range(10)]
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid

run(fork)
""",
    )


def test_a_loop_made_before_the_fork_and_used_only_in_the_child(program, kind):
    """Never run in the parent: ours refuses it clearly, asyncio's works."""
    done = program(
        """
import asyncio, os, sys
from tests.engine.loops import new_loop
loop = new_loop(sys.argv[1])
pid = os.fork()
if pid == 0:
    try:
        loop.run_until_complete(asyncio.sleep(0.001))
        print("works", flush=True)
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
loop.run_until_complete(asyncio.sleep(0.001))
loop.close()
print("parent works")
""",
        interpreter=("-W", "ignore"),
    )
    assert done.returncode == 0, done.stderr
    child, parent = done.stdout.splitlines()
    assert parent == "parent works"
    assert child == "works" if kind == "asyncio" else "forked this one" in child
