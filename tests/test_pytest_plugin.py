"""The plugin for pytest: what it fails, what it shows, and that it costs nothing unasked."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

#: Where it is not installed, it is named.
PLUGIN = (
    () if entry_points(group="pytest11", name="neverblock") else ("-p", "neverblock.pytest_plugin")
)
STALL = "--neverblock-stall=50ms"


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(*PLUGIN, "-p", "no:cacheprovider", *options)


PLAIN = """
    import asyncio, time
    import pytest

    async def block():
        time.sleep(0.3)

    def test_blocks():
        asyncio.run(block())

    def test_does_not():
        asyncio.run(asyncio.sleep(0.3))
"""


def test_a_test_that_blocks_its_loop_fails_and_shows_the_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PLAIN)
    result = run(pytester, STALL)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "neverblock: no test may block its event loop for 50 ms",
            "the test blocked its event loop for more than 50 ms:",
            "  test_a_test_that_*.py:5 in block, for * ms (task *",
            "      time.sleep(0.3) * sleeping in clock_nanosleep, GIL released",
            "      hint: await asyncio.sleep(0.3)",
        ]
    )


def test_the_option_may_stand_in_a_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PLAIN)
    pytester.makeini("[pytest]\nneverblock_stall = 0.05s\n")
    run(pytester).assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize("asked", ["option", "file"])
def test_a_conftest_may_name_the_plugin(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(PLAIN)
    pytester.makeconftest('pytest_plugins = ["neverblock.pytest_plugin"]\n')
    pytester.makeini("[pytest]\n" + ("neverblock_stall = 50ms\n" if asked == "file" else ""))
    options = (STALL,) if asked == "option" else ()
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)
    result.assert_outcomes(passed=1, failed=1)


def test_without_option_and_marker_nothing_is_watched_or_loaded(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        PLAIN
        + """
    def test_nothing_is_loaded():
        import sys
        loaded = {name for name in sys.modules if name.startswith("neverblock")}
        assert loaded == {"neverblock", "neverblock.pytest_plugin"}
        assert "click" not in sys.modules
"""
    )
    run(pytester, "--strict-markers", "-W", "error", "-p", "no:asyncio").assert_outcomes(passed=3)


OLD_PLUGGY = """
    import pluggy
    import pytest

    class Old(pluggy.HookimplMarker):
        def __call__(
            self, function=None, hookwrapper=False, optionalhook=False, tryfirst=False,
            trylast=False, specname=None,
        ):
            return super().__call__(
                function, hookwrapper, optionalhook, tryfirst, trylast, specname
            )

    pytest.hookimpl = Old("pytest")
"""


def test_an_old_pluggy_harms_nobody_who_does_not_ask(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(PLAIN, old_pluggy=OLD_PLUGGY)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.syspathinsert()
    plugins = ("-p", "old_pluggy", "-p", "neverblock.pytest_plugin", "-p", "no:cacheprovider")
    pytester.runpytest_subprocess(*plugins).assert_outcomes(passed=2)
    refused = pytester.runpytest_subprocess(*plugins, STALL)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*neverblock needs pluggy 1.2 or newer; pip install --upgrade*"])


def test_a_marker_is_for_one_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, time
        import pytest

        async def block():
            time.sleep(0.3)

        @pytest.mark.no_stall(0.05)
        def test_strict():
            asyncio.run(block())

        @pytest.mark.no_stall("10s")
        def test_patient():
            asyncio.run(block())

        @pytest.mark.no_stall
        def test_default():
            asyncio.run(block())

        def test_free():
            asyncio.run(block())
        """
    )
    run(pytester, "--strict-markers").assert_outcomes(passed=2, failed=2)


def test_a_marker_wins_over_the_option(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, time
        import pytest

        @pytest.mark.no_stall(None)
        def test_free():
            async def block():
                time.sleep(0.3)
            asyncio.run(block())
        """
    )
    run(pytester, STALL).assert_outcomes(passed=1)


def test_what_fails_anyway_shows_its_stalls_as_well(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, time

        async def block():
            time.sleep(0.3)
            assert "this" == "that"

        def test_fails():
            asyncio.run(block())
        """
    )
    result = run(pytester, STALL)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E  *AssertionError: assert 'this' == 'that'", "*stalls call*"])
    result.stdout.fnmatch_lines(["      hint: await asyncio.sleep(0.3)"])


def test_loops_of_other_threads_and_of_longer_lives_are_watched(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, threading, time
        import neverblock
        import pytest

        @pytest.fixture(scope="module")
        def server():
            loop = neverblock.new_event_loop()
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            yield loop
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

        async def block():
            time.sleep(0.3)

        def ask(server, coroutine):
            return asyncio.run_coroutine_threadsafe(coroutine, server).result()

        def test_first(server):
            ask(server, block())

        def test_second(server):
            ask(server, asyncio.sleep(0.01))

        def test_third(server):
            ask(server, block())
        """
    )
    run(pytester, STALL).assert_outcomes(passed=1, failed=2)


def test_a_fixture_that_blocks_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, time
        import pytest

        async def block():
            time.sleep(0.3)

        @pytest.fixture
        def before():
            asyncio.run(block())

        @pytest.fixture
        def after():
            yield
            asyncio.run(block())

        def test_before(before): ...
        def test_after(after): ...
        """
    )
    run(pytester, STALL).assert_outcomes(passed=1, errors=2)


def test_what_holds_the_gil_to_the_end_is_found(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, ctypes

        def test_sleeps():
            async def block():
                ctypes.PyDLL(None).usleep(500_000)
            asyncio.run(block())
        """
    )
    result = run(pytester, "--neverblock-stall=20ms")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["      ctypes.PyDLL(None).usleep(500_000) *"])


ASYNCIO = """
    import asyncio, time
    import pytest
    import pytest_asyncio


    @pytest_asyncio.fixture
    async def slow():
        time.sleep(0.3)

    @pytest.mark.asyncio
    async def test_blocks():
        assert type(asyncio.get_running_loop()).__module__.startswith("CHOSEN")
        time.sleep(0.3)

    @pytest.mark.asyncio
    async def test_does_not():
        await asyncio.sleep(0.3)

    @pytest.mark.asyncio
    async def test_fixture(slow): ...

    @pytest.mark.asyncio(loop_scope="module")
    async def test_longer_life():
        await asyncio.sleep(0)

    @pytest.mark.asyncio(loop_scope="module")
    async def test_longer_life_blocks():
        time.sleep(0.3)
"""

FACTORIES = """
    import {0}

    def pytest_asyncio_loop_factories(config, item):
        return {{"{0}": {0}.new_event_loop}}
"""


@pytest.mark.parametrize("chosen", ["asyncio", "neverblock", "uvloop"])
def test_it_works_with_pytest_asyncio(pytester: pytest.Pytester, chosen: str) -> None:
    pytest.importorskip("pytest_asyncio")
    pytest.importorskip(chosen)
    pytester.makeconftest(FACTORIES.format(chosen))
    pytester.makepyfile(ASYNCIO.replace("CHOSEN", chosen))
    result = run(pytester, STALL, "-p", "no:anyio")
    result.assert_outcomes(passed=2, failed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "  test_it_works_with_pytest_asyncio.py:13 in test_blocks, for * ms (task *",
            "      time.sleep(0.3) * sleeping in clock_nanosleep, GIL released",
        ]
    )


def test_it_works_with_the_plugin_of_anyio(pytester: pytest.Pytester) -> None:
    pytest.importorskip("anyio")
    pytester.makepyfile(
        """
        import time
        import anyio
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_blocks():
            time.sleep(0.3)

        @pytest.mark.anyio
        @pytest.mark.no_stall(0.05)
        async def test_does_not():
            await anyio.sleep(0.3)
        """
    )
    result = run(pytester, STALL, "-p", "no:asyncio")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["  *.py:11 in test_blocks, *", "      hint: await asyncio.sl*"])


def test_a_loop_that_is_not_watched_is_said_to_be(pytester: pytest.Pytester) -> None:
    pytest.importorskip("anyio")
    pytest.importorskip("uvloop")
    pytester.makeconftest(
        """
        import pytest
        import uvloop

        @pytest.fixture
        def anyio_backend():
            return "asyncio", {"use_uvloop": True}
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.anyio
        @pytest.mark.no_stall(0.05)
        async def test_cannot_be_kept(): ...
        """
    )
    result = run(pytester, "-p", "no:asyncio")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["no_stall cannot be kept: the test ran on a loop whose*"])
    result = run(pytester, "-p", "no:asyncio", STALL)
    result.assert_outcomes(passed=1)


def test_a_loop_with_a_watch_of_its_own_is_left_to_it(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        from functools import partial
        import neverblock

        def pytest_asyncio_loop_factories(config, item):
            return {"own": partial(neverblock.Loop, watch=neverblock.Watch())}
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.asyncio
        async def test_warned_of(): ...
        """
    )
    result = run(pytester, STALL, "-p", "no:anyio")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*UnwatchedLoopWarning: *test_warned_of*has a watch of its own*"])


@pytest.mark.parametrize("wrong", ["soon", "0", "-1s", "50m"])
def test_a_wrong_time_is_refused(pytester: pytest.Pytester, wrong: str) -> None:
    pytester.makepyfile(PLAIN)
    result = run(pytester, f"--neverblock-stall={wrong}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --neverblock-stall: write a time of 1ms or more, like *"])


def test_a_wrong_marker_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.no_stall(1, 2)\ndef test_it(): ...\n")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *::test_it: no_stall takes one time, like 0.05"])
