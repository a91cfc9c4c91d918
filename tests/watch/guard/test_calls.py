"""Every blocking call in the guard's table, made for real in a strict loop; and blockbuster's."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import blockbuster
import pytest

import neverblock
from neverblock.errors import BlockingCallError
from neverblock.watch.guard.call import Call
from neverblock.watch.guard.table import TABLE, found


def neighbour(name: str) -> ModuleType:
    """A module beside this one: pytest imports tests on their own."""
    specification = importlib.util.spec_from_file_location(
        f"guard_{name}", Path(__file__).with_name(f"{name}.py")
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    specification.loader.exec_module(module)
    return module


ways = neighbour("ways")

# The standard library expects no error but OSError where it has just made a socket.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: A closed file is no blocking call; kqueue is not Linux's; the rest are other names of rows that
#: are made here, or need what this machine cannot lend.
NOT_MADE = {
    "select.kqueue.control",
    "os.eventfd_read", "os.splice", "os.lchmod",
    "os.getxattr", "os.setxattr", "os.listxattr", "os.removexattr",
    "os.spawnv", "os.spawnl", "os.spawnlp", "os.spawnvp",
    "concurrent.futures.Executor.shutdown", "concurrent.futures.ProcessPoolExecutor.shutdown",
    "multiprocessing.Queue.get",
    "selectors.BaseSelector.select",
}  # fmt: skip
MADE = [call for call in TABLE if call.how != "shield" and call.name not in NOT_MADE]

#: What blockbuster catches though it only compares numbers.
WAITS_NOT = {"os.path.samestat"}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.chdir(tmp_path)
    with ExitStack() as left:
        stage = ways.Stage(tmp_path, left)
        yield stage
    vars(stage).clear()
    gc.collect()


def refused(make: object) -> BlockingCallError:
    """The error of a call that is made in a strict loop."""
    assert callable(make)

    async def main() -> BlockingCallError:
        with pytest.raises(BlockingCallError) as caught:
            make()
        return caught.value

    error = neverblock.run(main(), watch=neverblock.Guard())
    assert isinstance(error, BlockingCallError)
    return error


def there(call: Call) -> bool:
    """Whether this Python has it."""
    return call.how in ("event", "through") or found(call.at) is not None


@pytest.mark.parametrize("call", MADE, ids=lambda call: str(call.name))
def test_a_call_of_the_table_is_refused(call: Call, stage: object) -> None:
    if not there(call):
        pytest.skip("this Python does not have it")
    make = ways.WAYS[call.name](stage)
    error = refused(make)
    assert str(Path(__file__).parent) in error.where
    assert error.cure


def test_what_is_not_made_here_is_known() -> None:
    assert {call.name for call in TABLE} >= NOT_MADE
    assert not NOT_MADE & ways.WAYS.keys()


@pytest.mark.parametrize("name", sorted(blockbuster.BlockBuster().functions.keys() - WAITS_NOT))
def test_what_blockbuster_catches_is_refused(name: str, stage: object) -> None:
    if blockbuster.BlockBuster().functions[name].original_func is None:
        pytest.skip("this Python does not have it")
    refused(ways.WAYS[ways.ALSO.get(name, name)](stage))


def test_what_cannot_wait_is_let_through(stage: Any) -> None:
    found, path = os.stat(stage.file), stage.directory / ".." / "file"

    async def main() -> None:
        assert os.path.samestat(found, found)
        for each in (str(path), os.fsencode(path), path):
            assert os.path.abspath(each) == os.path.normpath(each)
        with pytest.raises(TypeError):
            os.path.abspath(None)  # type: ignore[call-overload]

    neverblock.run(main(), watch=neverblock.Guard())


def test_the_error_says_where_and_what_instead(tmp_path: Path) -> None:
    error = refused(lambda: time.sleep(0.5))
    assert error.call == "time.sleep"
    assert error.cure == "await asyncio.sleep(0.5)"
    assert 'with neverblock.allow_blocking("why")' in str(error)
    assert isinstance(error, RuntimeError)


def test_a_number_stands_in_the_cure_of_a_sleep_alone(stage: Any) -> None:
    receive, read, poll = stage.sock.recv, stage.opened("rb").read, ways.epoll(stage).poll
    assert stage.child.pid
    assert refused(lambda: time.sleep(1)).cure == "await asyncio.sleep(1)"
    for call, number, cure in [
        (receive, 10, "loop.sock_recv(…)"),
        (read, 10, "await asyncio.to_thread(…) around"),
        (poll, 1, "loop.add_reader(…)"),
        (os.wait3, 0, "asyncio.create_subprocess_exec(…)"),
    ]:
        error = refused(partial(call, number))
        assert cure in error.cure


@pytest.mark.parametrize("name", ["os.open", "os.ftruncate", "os.fchmod", "os.fchown"])
def test_a_call_that_shares_its_event_is_told_by_its_own_name(name: str, stage: Any) -> None:
    error = refused(ways.WAYS[name](stage))
    assert (error.call, error.cure) == (name, f"await asyncio.to_thread({name}, …)")


@pytest.mark.parametrize(
    "name",
    [
        *("os.scandir", "os.scandir.__next__", "os.walk", "os.fwalk"),
        *("pathlib.Path.iterdir", "pathlib.Path.glob", "pathlib.Path.rglob"),
    ],
)
def test_what_waits_at_each_step_is_to_go_into_a_thread_with_its_loop(
    name: str, stage: Any
) -> None:
    assert "whole loop" in refused(ways.WAYS[name](stage)).cure


@pytest.mark.parametrize("name", ["os.popen", "subprocess.getoutput", "os.system"])
def test_a_shells_command_is_to_be_one_still(name: str, stage: Any) -> None:
    assert "create_subprocess_shell" in refused(ways.WAYS[name](stage)).cure


@pytest.mark.parametrize("name", ["sqlite3.connect", "sqlite3.Cursor.fetchall"])
def test_a_data_base_is_to_stay_in_one_thread(name: str, stage: Any) -> None:
    assert "one function that connects" in refused(ways.WAYS[name](stage)).cure


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="blockbuster has fewer calls there")
def test_the_page_has_the_table() -> None:
    page = neighbour("page")
    text = page.PAGE.read_text()
    assert page.written(text) == text, "run python tests/watch/guard/page.py"


def test_all_that_blockhound_catches_has_a_counterpart() -> None:
    answered = ", ".join(call.java for call in TABLE)
    for method in (
        "Thread.sleep", "Thread.yield", "Object.wait", "Unsafe.park", "ProcessImpl.forkAndExec",
        "RandomAccessFile.read0/readBytes", "RandomAccessFile.write0/writeBytes",
        "FileInputStream.read0/readBytes", "FileOutputStream.write/writeBytes",
        "Socket.connect", "DatagramSocket.connect", "PlainDatagramSocketImpl.connect0",
        "PlainDatagramSocketImpl.peekData", "PlainDatagramSocketImpl.send",
        "PlainSocketImpl.socketAccept", "SocketInputStream.socketRead0",
        "SocketOutputStream.socketWrite0",
    ):  # fmt: skip
        assert method in answered
