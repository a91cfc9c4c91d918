"""The watch of ``neverblock run`` and ``serve``: on unless told otherwise, and never in the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.proc import eventually, threads
from tests.servers.serving import PATIENCE, exactly, neverblock, neverblock_here, served

BLOCKS = "import asyncio, time\nasync def main():\n    time.sleep(0.4)\nasyncio.run(main())\n"

#: Three loops, one after the other, each of which would be watched.
THREE = "import asyncio\nfor _ in range(3):\n    asyncio.run(asyncio.sleep(0))\nprint('done')\n"

#: Nobody may use a real-time signal but this program.
SIGNALS_TAKEN = """\
import asyncio, signal
for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
    signal.signal(number, lambda *_: None)
asyncio.run(asyncio.sleep(0))
asyncio.run(asyncio.sleep(0))
print('done')
"""

#: The command on a system that is said to be another one.
ELSEWHERE = """\
import asyncio, sys
sys.platform = "freebsd14"
from neverblock.cli import main
sys.exit(main(sys.argv[1:]))
"""

#: Threads with a stack of a petabyte, which no system has room for (pthread_create(3)).
NO_THREAD = ("sh", "-c", 'ulimit -s 1000000000000; exec "$@"', "sh")

ECHO = "examples/echo.py:handle"


@pytest.mark.parametrize("options", [(), ("--stall-threshold", "0"), ("--stall-threshold", "off")])
def test_a_program_is_watched_unless_told_not_to(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "app.py").write_text(BLOCKS)
    done = neverblock("run", *options, "app.py", cwd=tmp_path)
    assert done.returncode == 0
    if options:
        assert done.stderr == ""
    else:
        assert "and counting: app.py:3 in main" in done.stderr
        assert "hint: await asyncio.sleep(0.4)" in done.stderr


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_threshold_of_turns_that_nobody_heeds_is_refused(tmp_path: Path, command: str) -> None:
    app = tmp_path / "app.py"
    app.write_text(BLOCKS)
    what = {"run": (str(app),), "serve": (f"{app}:handle",)}[command]
    options = ("--stall-threshold", "off", "--turn-threshold", "0.05")
    done = neverblock_here(command, *options, *what)
    assert done.returncode == 2
    assert "--turn-threshold: nobody watches; " in done.stderr


def test_a_threshold_of_turns_is_refused_where_there_are_none() -> None:
    done = neverblock_here("serve", ECHO, "--model", "thread", "--turn-threshold", "0.05")
    assert done.returncode == 2
    assert "--turn-threshold: the thread model has no use for it" in done.stderr


@pytest.mark.parametrize("seconds", ["inf", "nan", "0", "-1", "soon"])
@pytest.mark.parametrize(
    "option", [("watch", "--stall-threshold"), ("run", "--turn-threshold")], ids=" ".join
)
def test_a_threshold_without_end_is_refused(option: tuple[str, str], seconds: str) -> None:
    done = neverblock_here(*option, seconds, __file__)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"write seconds, like 0.1, and no less than 0.001, not '{seconds}'" in line


def test_a_config_file_may_say_off(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text('stall-threshold = "off"\n')
    with served(ECHO, "--config", str(config)) as server, server.connect() as client:
        client.sendall(b"!")
        assert exactly(client, 1) == b"!"
        assert threads(server.pid, watch=True) == 1


def test_a_server_s_watch_is_two_threads() -> None:
    with served(ECHO) as server, server.connect() as client:
        client.sendall(b"!")
        assert exactly(client, 1) == b"!"
        eventually(lambda: threads(server.pid) == 1)  # They take their name once they run.
        assert threads(server.pid, watch=True) == 3


def test_a_program_whose_threads_are_refused_runs_unwatched(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(THREE)
    done = neverblock("run", "app.py", cwd=tmp_path, wrapper=NO_THREAD)
    assert_told_once(done, "the system refuses one more")


def test_a_server_whose_threads_are_refused_runs_unwatched() -> None:
    with served(ECHO, wrapper=NO_THREAD) as server, server.connect() as client:
        client.sendall(b"!")
        assert exactly(client, 1) == b"!"
        assert server.stop() == 0
    assert server.log.count("the loop is not watched") == 1


def test_a_program_that_takes_all_signals_runs_unwatched(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SIGNALS_TAKEN)
    assert_told_once(neverblock("run", "app.py", cwd=tmp_path), "signal")


def test_elsewhere_than_on_linux_a_program_runs_unwatched(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(THREE)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, "run", "app.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert_told_once(done, "the watch needs Linux")


def assert_told_once(done: subprocess.CompletedProcess[str], why: str) -> None:
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("the loop is not watched: ")
    assert why in line
