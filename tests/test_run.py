"""neverblock.run, new_event_loop, install and EventLoopPolicy: the ways in."""

import asyncio
import contextvars
import gc
import signal
import subprocess
import sys
import threading
import warnings

import pytest

import neverblock

number = contextvars.ContextVar("number", default=0)


def in_process(source):
    """In a process of its own, where all warnings are shown."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", source],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def answer(value=42):
    await asyncio.sleep(0)
    return value


def test_run_returns_what_main_returns():
    assert neverblock.run(answer()) == 42


def test_run_uses_our_loop():
    async def main():
        return asyncio.get_running_loop()

    loop = neverblock.run(main())
    assert isinstance(loop, neverblock.Loop)
    assert loop.is_closed()


def test_run_raises_what_main_raises():
    async def main():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        neverblock.run(main())


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_run_lets_exits_through(error):
    async def main():
        raise error

    with pytest.raises(error):
        neverblock.run(main())


@pytest.mark.parametrize("debug", [True, False, None])
def test_run_sets_debug_mode(debug):
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert neverblock.run(main(), debug=debug) is bool(debug)


def test_run_takes_another_factory(backend):
    async def main():
        return asyncio.get_running_loop().backend

    assert neverblock.run(main(), loop_factory=lambda: neverblock.Loop(backend=backend)) == backend


def test_run_refuses_what_is_no_coroutine():
    with pytest.raises((TypeError, ValueError)):
        neverblock.run(answer)
    with pytest.raises((TypeError, ValueError)):
        neverblock.run(42)
    with pytest.raises(TypeError):
        coroutine = answer()
        try:
            neverblock.run(coroutine, unknown=True)
        finally:
            coroutine.close()


NESTED = """
import asyncio, neverblock

async def answer():
    return "goes on"

async def main():
    coroutine = answer()
    try:
        neverblock.run(coroutine)
    except RuntimeError as error:
        print(error)
    coroutine.close()
    return await answer()

print(neverblock.run(main()))
"""


def test_run_within_a_running_loop_is_refused():
    done = in_process(NESTED)
    assert "cannot be called from a running event loop" in done.stdout
    assert done.stdout.endswith("goes on\n")
    assert not done.stderr


def test_run_again_and_again():
    loops = []

    async def main():
        loops.append(asyncio.get_running_loop())

    for _ in range(5):
        neverblock.run(main())
    assert len({id(loop) for loop in loops}) == 5
    assert all(loop.is_closed() for loop in loops)


def test_run_cancels_what_is_left_and_waits_for_it():
    seen = []

    async def left():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            seen.append("cancelled")

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            seen.append("generator closed")

    async def main():
        main.task = asyncio.create_task(left())
        main.numbers = numbers()
        await anext(main.numbers)
        await asyncio.to_thread(int)

    threads = threading.active_count()
    neverblock.run(main())
    assert seen == ["cancelled", "generator closed"]
    assert threading.active_count() == threads  # the executor's are joined


def test_a_failure_in_what_is_left_is_told(caplog):
    async def left():
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("in the clean-up")

    async def main():
        main.task = asyncio.create_task(left())
        await asyncio.sleep(0)

    neverblock.run(main())
    assert "unhandled exception during" in caplog.text
    assert "in the clean-up" in caplog.text


def test_ctrl_c_cancels_main_and_is_raised():
    seen = []

    async def main():
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            neverblock.run(main())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["cancelled"]


def test_ctrl_c_twice_leaves_a_main_that_clings():
    async def main():
        loop = asyncio.get_running_loop()
        loop.call_soon(signal.raise_signal, signal.SIGINT)
        while True:
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                loop.call_later(0.001, signal.raise_signal, signal.SIGINT)
                await asyncio.sleep(20)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            neverblock.run(main())
    finally:
        signal.signal(signal.SIGINT, before)


def test_run_in_another_thread():
    results = []

    def work():
        results.append(neverblock.run(answer()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [42] * 4


def test_a_runner_keeps_its_loop_and_context():
    async def read_and_set():
        before = number.get()
        number.set(before + 1)
        return before

    with asyncio.Runner(loop_factory=neverblock.new_event_loop) as runner:
        assert [runner.run(read_and_set()) for _ in range(3)] == [0, 1, 2]
        assert isinstance(runner.get_loop(), neverblock.Loop)
    assert number.get() == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="loop_factory is of 3.12")
def test_asyncio_run_takes_our_factory():
    async def main():
        return isinstance(asyncio.get_running_loop(), neverblock.Loop)

    assert asyncio.run(main(), loop_factory=neverblock.new_event_loop)


def test_isolated_asyncio_test_cases_take_our_factory():
    import unittest

    seen = []

    class Case(unittest.IsolatedAsyncioTestCase):
        loop_factory = staticmethod(neverblock.new_event_loop)

        async def test(self):
            seen.append(type(asyncio.get_running_loop()))
            await asyncio.sleep(0)

    result = unittest.TestResult()
    Case("test").run(result)
    assert result.wasSuccessful(), result.errors
    if sys.version_info >= (3, 13):
        assert seen == [neverblock.Loop]
    gc.collect()


POLICY = """
import asyncio, sys, warnings
import neverblock
warnings.simplefilter("ignore")

async def main():
    return type(asyncio.get_running_loop())

{way}
assert asyncio.run(main()) is neverblock.Loop
loop = asyncio.new_event_loop()
assert type(loop) is neverblock.Loop
loop.close()
asyncio.set_event_loop_policy(None)
assert asyncio.run(main()) is not neverblock.Loop
print("done")
"""


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="policies are gone")
@pytest.mark.parametrize(
    "way",
    [
        "neverblock.install()",
        "asyncio.set_event_loop_policy(neverblock.EventLoopPolicy())",
        "from neverblock import install; install()",
    ],
)
def test_policies(way):
    done = in_process(POLICY.format(way=way))
    assert done.stdout == "done\n", done.stderr


@pytest.mark.skipif(sys.version_info < (3, 12), reason="deprecated from 3.12 on")
def test_install_says_that_it_is_deprecated():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.14 on this is itself
        before = asyncio.get_event_loop_policy()
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            neverblock.install()
        assert [warning.category for warning in told] == [DeprecationWarning]
        assert "neverblock.run" in str(told[0].message)
        assert told[0].filename == __file__
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(before)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no_such_name"):
        neverblock.no_such_name  # noqa: B018
