"""The conformance command itself: it must lose no test and hide no failure."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("test.test_asyncio", reason="this Python comes without CPython's tests")

RUN = Path(__file__).with_name("run.py")


def loop_that(tmp_path: Path, body: str) -> str:
    """A module with a loop that is asyncio's but for `body`; gives its name."""
    (tmp_path / "odd_loop.py").write_text(
        "import asyncio, os, pathlib, time\n"
        f"mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "class Loop(asyncio.SelectorEventLoop):\n"
        "    def run_in_executor(self, executor, func, *args):\n"
        f"        {body}\n"
        "        return super().run_in_executor(executor, func, *args)\n"
        "new_event_loop = Loop\n"
    )
    return "odd_loop"


def conformance(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(RUN), "-j", "1", *arguments],
        check=False,
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    return done.returncode, done.stdout


def counts(output: str) -> tuple[int, int, int]:
    last = re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped", output.splitlines()[-1])
    assert last is not None, output
    passed, failed, skipped = map(int, last.groups())
    return passed, failed, skipped


def test_asyncio_passes_on_every_backend_and_uses_are_counted(tmp_path):
    status, output = conformance(tmp_path, "--loop", "asyncio", "test_threads")
    passed, failed, skipped = counts(output)
    assert (status, failed, skipped) == (0, 0, 0)
    for backend in ("epoll", "poll", "select"):
        line = re.search(rf"^{backend} +(\d+) +(\d+) +(\d+) +(\d+)$", output, re.MULTILINE)
        assert line is not None, output
        assert len(set(line.groups())) == 1, output
        assert passed == 3 * int(line[1])


def test_what_no_backend_matters_to_runs_on_one(tmp_path):
    status, output = conformance(
        tmp_path, "--loop", "asyncio", "--backends", "epoll,poll", "test_threads", "test_transports"
    )
    assert status == 0
    (all_, used), (others, used_there) = (
        map(int, re.search(rf"^{backend} +(\d+) +\d+ +(\d+)", output, re.MULTILINE).groups())
        for backend in ("epoll", "poll")
    )
    assert all_ > used == used_there == others > 0


def test_tests_skipped_by_decorator_are_booked_and_named(tmp_path):
    status, output = conformance(
        tmp_path, "--loop", "asyncio", "--backends", "poll", "test_server", "test_windows_utils"
    )
    passed, failed, skipped = counts(output)
    assert (status, failed, skipped) == (0, 0, 1)
    assert passed >= 2
    assert "ProactorStartServerTests: 1 times: Windows only" in output
    assert "not run: test_windows_utils: Windows only" in output


def test_a_failure_is_a_failure(tmp_path):
    loop = loop_that(tmp_path, "raise RuntimeError('no executor today')")
    status, output = conformance(tmp_path, "--loop", loop, "test_threads")
    assert status == 1
    assert counts(output)[1] > 0
    assert "RuntimeError: no executor today" in output


def test_a_crash_costs_its_test_alone(tmp_path):
    loop = loop_that(tmp_path, "getattr(func, '__name__', '') == 'get_ctx' or os.abort()")
    status, output = conformance(tmp_path, "--loop", loop, "test_threads", "-k", "test_to_thread")
    _, failed, _ = counts(output)
    assert status == 1
    assert output.count("the worker died of SIGABRT") == failed > 1


def test_a_hang_ends_at_the_limit(tmp_path):
    loop = loop_that(tmp_path, "time.sleep(1000)")
    status, output = conformance(
        tmp_path, "--loop", loop, "test_threads", "-k", "test_to_thread_once", "--test-timeout", "1"
    )
    assert status == 1
    assert "test_to_thread_once: the test hangs" in output


def test_an_exception_nobody_could_catch_fails_its_test(tmp_path):
    loop = loop_that(tmp_path, "type('Odd', (), {'__del__': lambda self: 1 / 0})()")
    status, output = conformance(
        tmp_path, "--loop", loop, "test_threads", "-k", "test_to_thread_once"
    )
    assert status == 1
    assert counts(output) == (0, 1, 0)
    how = "while calling deallocator" if sys.version_info >= (3, 14) else "in"
    assert f"ZeroDivisionError ignored {how} <function" in output


def test_a_flaky_test_is_named(tmp_path):
    loop = loop_that(tmp_path, "mark.exists() or mark.touch() or 1 / 0")
    status, output = conformance(
        tmp_path, "--loop", loop, "test_threads", "-k", "test_to_thread_once"
    )
    assert status == 0
    assert "failed once, then passed when run again alone:" in output
    assert "test_to_thread_once: ZeroDivisionError: division by zero" in output


def test_a_test_skipped_for_this_loop_alone_is_a_failure(tmp_path):
    loop = loop_that(tmp_path, "import unittest; raise unittest.SkipTest('not today')")
    status, output = conformance(
        tmp_path, "--loop", loop, "test_threads", "-k", "test_to_thread_once"
    )
    assert status == 1
    assert "skipped (not today), but runs on asyncio's loop" in output


def write_list(tmp_path: Path, text: str) -> tuple[str, str]:
    path = tmp_path / "list.toml"
    path.write_text(text)
    return "--expected", str(path)


ONCE = ("test_threads", "-k", "test_to_thread_once")


def test_an_expected_failure_is_set_aside_with_its_reason(tmp_path):
    loop = loop_that(tmp_path, "1 / 0")
    listed = write_list(
        tmp_path, '[[expected]]\ntest = "test_threads.*.test_to_thread_once"\nreason = "a try"\n'
    )
    status, output = conformance(tmp_path, "--loop", loop, *ONCE, *listed)
    assert (status, *counts(output)) == (0, 0, 0, 1)
    assert "test_to_thread_once: a try" in output


def test_an_expected_failure_that_passes_is_a_failure(tmp_path):
    listed = write_list(
        tmp_path,
        '[[expected]]\ntest = "test_threads.*"\nbackend = ["poll"]\nreason = "a try"\n',
    )
    status, output = conformance(
        tmp_path, "--loop", "asyncio", "--backends", "epoll,poll", *ONCE, *listed
    )
    assert (status, *counts(output)) == (1, 1, 1, 0)
    assert "passed; expected to fail: a try" in output


def test_an_entry_for_another_python_does_not_count(tmp_path):
    listed = write_list(tmp_path, '[[expected]]\ntest = "*"\npython = ["3.1"]\nreason = "a try"\n')
    status, output = conformance(
        tmp_path, "--loop", "asyncio", "--backends", "epoll", *ONCE, *listed
    )
    assert (status, *counts(output)) == (0, 1, 0, 0)


def test_an_entry_without_a_reason_is_refused(tmp_path):
    listed = write_list(tmp_path, '[[expected]]\ntest = "*"\nreason = " "\n')
    status, output = conformance(tmp_path, "--loop", "asyncio", *ONCE, *listed)
    assert status == 1
    assert "list.toml: * has no reason" in output
