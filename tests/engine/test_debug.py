"""Debug mode: what is slow, what is called from the wrong thread, where it came from."""

import asyncio
import logging
import socket
import threading
import time

import pytest

from .test_callbacks import turn


@pytest.fixture
def debug(loop):
    loop.set_debug(True)
    loop.slow_callback_duration = 1000
    return loop


def slow_one():
    time.sleep(0.005)


def test_debug_is_off_and_can_be_set(loop):
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False
    assert loop.slow_callback_duration == 0.1


def test_debug_can_be_switched_while_running(loop):
    seen = []

    async def main():
        for flag in (True, False, True):
            loop.set_debug(flag)
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            seen.append(loop.get_debug())

    loop.run_until_complete(main())
    assert seen == [True, False, True]


@pytest.mark.parametrize("schedule", ["call_soon", "call_later", "call_soon_threadsafe"])
def test_a_slow_callback_is_logged_with_its_name(debug, caplog, schedule):
    debug.slow_callback_duration = 0.001
    args = (0,) if schedule == "call_later" else ()
    with caplog.at_level(logging.WARNING, "asyncio"):
        getattr(debug, schedule)(*args, slow_one)
        debug.call_later(0.001, debug.stop)
        debug.run_forever()
    [line] = [text for text in caplog.messages if "slow_one" in text]
    assert line.startswith("Executing <")
    assert " took 0.0" in line
    assert line.endswith("seconds")


def test_a_slow_reader_is_logged_with_its_name(debug, caplog):
    ours, theirs = socket.socketpair()

    def slow_reader():
        ours.recv(1)
        time.sleep(0.005)
        debug.stop()

    with ours, theirs, caplog.at_level(logging.WARNING, "asyncio"):
        theirs.send(b"x")
        debug.slow_callback_duration = 0.001
        debug.add_reader(ours, slow_reader)
        debug.run_forever()
        debug.remove_reader(ours)
    assert any("slow_reader" in text and "took" in text for text in caplog.messages)


def test_a_slow_step_of_a_task_is_logged_with_the_task(debug, caplog):
    async def slow_coroutine():
        time.sleep(0.005)

    debug.slow_callback_duration = 0.001
    with caplog.at_level(logging.WARNING, "asyncio"):
        debug.run_until_complete(debug.create_task(slow_coroutine(), name="the slow task"))
    assert any(
        "Executing <Task" in text and "the slow task" in text and "slow_coroutine" in text
        for text in caplog.messages
    )


def test_a_quick_callback_is_not_logged(debug, caplog):
    with caplog.at_level(logging.WARNING, "asyncio"):
        debug.call_soon(lambda: None)
        turn(debug)
    assert not caplog.messages


def test_nothing_is_logged_outside_debug_mode(loop, caplog):
    loop.slow_callback_duration = 0.0
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.call_soon(slow_one)
        turn(loop)
    assert not caplog.messages


@pytest.mark.parametrize("schedule", ["call_soon", "call_later", "call_at"])
def test_the_wrong_thread_is_told(debug, schedule):
    errors = []
    args = () if schedule == "call_soon" else (0,)

    def call():
        try:
            getattr(debug, schedule)(*args, print)
        except RuntimeError as error:
            errors.append(str(error))
        debug.call_soon_threadsafe(debug.stop)

    thread = threading.Thread(target=call)
    debug.call_soon(thread.start)
    debug.run_forever()
    thread.join()
    assert errors == [
        "Non-thread-safe operation invoked on an event loop other than the current one"
    ]


def test_any_thread_may_call_while_the_loop_does_not_run(debug):
    seen = []
    thread = threading.Thread(target=debug.call_soon, args=(seen.append, 1))
    thread.start()
    thread.join()
    turn(debug)
    assert seen == [1]


@pytest.mark.parametrize("schedule", ["call_soon", "call_later", "call_at", "call_soon_threadsafe"])
def test_what_is_not_a_callback_is_refused_at_once(debug, schedule):
    args = (0,) if schedule in ("call_later", "call_at") else ()

    async def coroutine_function():
        pass

    with pytest.raises(TypeError, match="a callable object was expected"):
        getattr(debug, schedule)(*args, 42)
    with pytest.raises(TypeError, match="coroutines cannot be used"):
        getattr(debug, schedule)(*args, coroutine_function)
    coroutine = coroutine_function()
    with pytest.raises(TypeError, match="coroutines cannot be used"):
        getattr(debug, schedule)(*args, coroutine)
    coroutine.close()


def failing():
    raise ValueError("for the log")


@pytest.mark.parametrize("schedule", ["call_soon", "call_later", "call_soon_threadsafe"])
def test_the_exception_context_tells_where_the_callback_was_made(debug, trouble, schedule):
    args = (0,) if schedule == "call_later" else ()
    getattr(debug, schedule)(*args, failing)
    debug.call_later(0.001, debug.stop)
    debug.run_forever()
    [context] = trouble.take()
    frames = [(frame.filename, frame.name) for frame in context["source_traceback"]]
    name = "test_the_exception_context_tells_where_the_callback_was_made"
    assert frames[-1] == (__file__, name)


def test_the_default_handler_logs_where_the_callback_was_made(debug, caplog):
    debug.set_exception_handler(None)
    debug.call_soon(failing)
    turn(debug)
    assert "Object created at (most recent call last)" in caplog.text or (
        "Handle created at (most recent call last)" in caplog.text
    )
    assert "test_the_default_handler_logs_where" in caplog.text
    assert "ValueError: for the log" in caplog.text


def test_no_source_traceback_outside_debug_mode(loop, trouble):
    loop.call_soon(failing)
    turn(loop)
    [context] = trouble.take()
    assert "source_traceback" not in context


def test_the_environment_switches_debug_mode_on(program):
    source = "import sys; from tests.engine.loops import new_loop; "
    source += "loop = new_loop(sys.argv[1]); print(loop.get_debug()); loop.close()"
    for value, expected in (("1", "True"), ("", "False")):
        done = program(source, env={"PYTHONASYNCIODEBUG": value})
        assert done.stdout.strip() == expected, done.stderr


def test_everything_at_once_in_debug_mode(run, tmp_path, caplog):
    """Debug mode never crashes: connections, subprocesses, threads, timers, failures."""

    async def main():
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 0.0  # every callback is slow: each repr is made

        async def echo(reader, writer):
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
            writer.close()

        async def talk(open_one):
            reader, writer = await open_one()
            for n in range(10):
                writer.writelines([b"%d" % n, b"\n"])
                assert await reader.readline() == b"%d\n" % n
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

        path = str(tmp_path / "socket")
        tcp = await asyncio.start_server(echo, "127.0.0.1", 0)
        unix = await asyncio.start_unix_server(echo, path)
        port = tcp.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        results = await asyncio.gather(
            talk(lambda: asyncio.open_connection("127.0.0.1", port)),
            talk(lambda: asyncio.open_unix_connection(path)),
            process.communicate(b"through a process"),
            asyncio.to_thread(threading.get_ident),
            loop.getaddrinfo("127.0.0.1", 80),
        )
        assert results[2][0] == b"through a process"
        tcp.close()
        unix.close()

    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(main, debug=True)
