"""Signals: handlers of the loop's, Python's own handlers, and Ctrl-C."""

import asyncio
import os
import signal
import socket
import threading

import pytest

from .loops import new_loop
from .test_callbacks import spin, turn


@pytest.fixture(autouse=True)
def dispositions():
    """Every signal used here is put back as it was."""
    numbers = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGCHLD, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    assert signal.set_wakeup_fd(-1) == -1, "a closed loop left its wakeup descriptor"


def send(number, delay=0.002):
    timer = threading.Timer(delay, os.kill, (os.getpid(), number))
    timer.start()
    return timer


def test_a_handler_is_called_with_its_arguments(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, lambda *args: (seen.append(args), loop.stop()), 1, 2)
    sender = send(signal.SIGUSR1)  # while the loop sleeps
    loop.run_forever()
    sender.join()
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)  # while it works
    loop.run_forever()
    assert seen == [(1, 2)] * 2


def test_a_handler_is_called_while_callbacks_spin(loop):
    stop = spin(loop)
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    sender = send(signal.SIGUSR1)
    loop.run_forever()
    sender.join()
    stop.append(True)


def test_a_handler_is_called_once_for_each_signal_raised(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    loop.add_signal_handler(signal.SIGUSR2, seen.append, 2)
    for _ in range(50):
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert seen == [1, 2] * 50


def test_a_signal_that_came_while_the_loop_did_not_run_is_delivered(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "delivered")
    signal.raise_signal(signal.SIGUSR1)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert seen == ["delivered"]


def test_a_handler_runs_in_the_loop_not_in_the_middle_of_a_callback(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "handler")

    def callback():
        signal.raise_signal(signal.SIGUSR1)
        seen.append("callback ends")

    loop.call_soon(callback)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert seen == ["callback ends", "handler"]


def test_a_second_handler_replaces_the_first(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "second")
    signal.raise_signal(signal.SIGUSR1)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert seen == ["second"]


def test_remove_puts_the_default_back(loop):
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGINT) is True
    assert loop.remove_signal_handler(signal.SIGINT) is False
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_close_removes_handlers(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_misuse(loop):
    async def coroutine_function():
        pass

    with pytest.raises(TypeError, match="coroutines cannot be used"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine_function)
    with pytest.raises(TypeError):
        loop.add_signal_handler("SIGUSR1", print)
    with pytest.raises(ValueError, match="invalid signal number"):
        loop.add_signal_handler(signal.NSIG + 1, print)
    with pytest.raises(RuntimeError, match="sig 9 cannot be caught"):
        loop.add_signal_handler(signal.SIGKILL, print)
    with pytest.raises(ValueError, match="invalid signal number"):
        loop.remove_signal_handler(0)


def test_another_thread_may_not_add_handlers(kind):
    errors = []

    def main():
        loop = new_loop(kind)
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except (RuntimeError, ValueError) as error:
            errors.append(str(error))
        turn(loop)
        loop.close()

    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert "main thread" in errors[0]


def test_a_handler_that_raises_is_told_and_stays(loop, trouble):
    loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
    for _ in range(2):
        signal.raise_signal(signal.SIGUSR1)
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
    told = [type(context["exception"]) for context in trouble.take()]
    assert told == [ZeroDivisionError] * 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_handler_may_leave_the_loop(loop, error):
    def leave():
        raise error

    loop.add_signal_handler(signal.SIGUSR1, leave)
    sender = send(signal.SIGUSR1)
    with pytest.raises(error):
        loop.run_forever()
    sender.join()
    turn(loop)


class Mine(Exception):
    pass


def test_what_pythons_own_handler_raises_leaves_the_loop(loop):
    """The handler runs inside the wait; the loop can be run again."""
    seen = []

    def handler(signum, frame):
        raise Mine

    signal.signal(signal.SIGUSR1, handler)
    sender = send(signal.SIGUSR1, 0.01)
    with pytest.raises(Mine):
        loop.run_forever()
    sender.join()
    loop.call_soon(seen.append, "again")
    turn(loop)
    assert seen == ["again"]


def test_pythons_own_handler_runs_while_the_loop_sleeps(loop):
    """And the sleep goes on, or is ended: either way the timers come in time."""
    seen = []
    signal.signal(signal.SIGUSR1, lambda *_: seen.append("handler"))
    sender = send(signal.SIGUSR1)
    loop.call_later(0.02, lambda: (seen.append("timer"), loop.stop()))
    loop.run_forever()
    sender.join()
    assert seen == ["handler", "timer"]


def test_ctrl_c_leaves_run_forever(loop):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    loop.call_soon(send, signal.SIGINT)  # from inside: it must not come before the loop runs
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    turn(loop)


def test_ctrl_c_cancels_the_main_task_and_leaves_run(run):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seen = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.sleep(20)
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert seen == ["cleaned up"]


WORKING = """
import asyncio, sys
from tests.engine.loops import new_loop

async def spin():
    while True:
        await asyncio.sleep(0)

async def serve():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    await server.serve_forever()

async def sleep():
    await asyncio.sleep(60)

async def main():
    asyncio.get_running_loop().call_soon(lambda: print("ready", flush=True))
    try:
        await globals()[sys.argv[2]]()
    finally:
        print("cleaned up", flush=True)

with asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])) as runner:
    runner.run(main())
"""


@pytest.mark.heavy
@pytest.mark.parametrize("work", ["sleep", "spin", "serve"])
def test_ctrl_c_ends_a_program(program, work):
    with program.started(WORKING, work) as process:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert out == "cleaned up\n"
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT


@pytest.fixture
def own_wakeup():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours.fileno()
        signal.set_wakeup_fd(-1)


def test_a_wakeup_descriptor_set_before_the_run_is_left_alone(loop, own_wakeup):
    signal.set_wakeup_fd(own_wakeup)
    loop.call_soon(lambda: None)
    turn(loop)
    assert signal.set_wakeup_fd(-1) == own_wakeup


def test_a_wakeup_descriptor_set_within_the_run_is_left_alone(loop, own_wakeup):
    loop.call_soon(signal.set_wakeup_fd, own_wakeup)
    turn(loop)
    assert signal.set_wakeup_fd(-1) == own_wakeup


def test_the_user_may_handle_sigchld(run):
    async def main():
        loop = asyncio.get_running_loop()
        seen = loop.create_future()
        loop.add_signal_handler(
            signal.SIGCHLD, lambda: None if seen.done() else seen.set_result(True)
        )
        process = await asyncio.create_subprocess_exec("true")
        assert await seen
        code = await process.wait()
        loop.remove_signal_handler(signal.SIGCHLD)
        return code

    assert run(main) == 0
