"""Fixtures shared by the tests of the engine and of faults; a conftest imports them all."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .loops import HEAVY_KINDS, KINDS, new_loop

__all__ = [
    "descriptors",
    "kind",
    "loop",
    "program",
    "pytest_configure",
    "pytest_generate_tests",
    "run",
    "trouble",
    "wire",
]

ROOT = Path(__file__).resolve().parents[2]


def pytest_configure(config):
    config.addinivalue_line("markers", "heavy: on asyncio's loop and our default backend only")
    config.addinivalue_line("markers", "ours(reason): of our loop alone")
    config.addinivalue_line("markers", "broken(reason): our loop is known to fail it")


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        heavy = metafunc.definition.get_closest_marker("heavy") is not None
        kinds = HEAVY_KINDS if heavy else KINDS
        if metafunc.definition.get_closest_marker("ours") is not None:
            kinds = [kind for kind in kinds if kind != "asyncio"]
        metafunc.parametrize("kind", kinds, indirect=True)


class Hung(SystemExit):
    """The time limit's failure in a form that leaves a loop from inside a callback."""


@pytest.fixture
def descriptors():
    """A function that tells the descriptors open now."""

    def open_now():
        found = {}
        for name in os.listdir("/proc/self/fd"):
            try:
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
            except FileNotFoundError:  # the one of the listing itself
                continue
        return found

    return open_now


class Trouble(list):
    """Contexts given to the loop's exception handler."""

    def take(self) -> list[dict]:
        taken = list(self)
        self.clear()
        return taken

    def handle(self, loop, context):
        if isinstance(context.get("exception"), pytest.fail.Exception):
            raise Hung("out of time, see above") from context["exception"]
        self.append(context)


@pytest.fixture
def trouble():
    seen = Trouble()
    yield seen
    assert not seen, "told to the exception handler: " + "; ".join(map(repr, seen))


@pytest.fixture
def kind(request):
    if request.param != "asyncio" and (broken := request.node.get_closest_marker("broken")):
        request.node.add_marker(pytest.mark.xfail(strict=True, reason=broken.args[0]))
    return request.param


@pytest.fixture
def loop(kind, trouble):
    loop = new_loop(kind)
    loop.set_exception_handler(trouble.handle)
    yield loop
    loop.close()


@pytest.fixture
def run(kind, trouble):
    """Run a coroutine function to its end on a fresh loop, as asyncio.run does."""

    def run(main, *args, debug=None, timeout=30):
        async def bounded():
            asyncio.get_running_loop().set_exception_handler(trouble.handle)
            async with asyncio.timeout(timeout):
                return await main(*args)

        with asyncio.Runner(loop_factory=lambda: new_loop(kind), debug=debug) as runner:
            return runner.run(bounded())

    return run


@pytest.fixture(params=["tcp", "unix"])
def wire(request):
    return request.param


@pytest.fixture
def program(kind):
    """Run a Python file, or a source text, in a process of its own; the kind is its argument."""

    @contextlib.contextmanager
    def started(what, *args, interpreter=(), env=None, **kwargs):
        what = [str(what)] if isinstance(what, Path) else ["-c", what]
        command = [sys.executable, *interpreter, *what, kind, *map(str, args)]
        environ = dict(os.environ, PYTHONPATH=str(ROOT), **(env or {}))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, env=environ, text=True, **pipes | kwargs) as process:
            try:
                yield process
            finally:
                process.kill()

    def program(what, *args, timeout=50, **kwargs):
        with started(what, *args, **kwargs) as process:
            out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    program.started = started
    return program
