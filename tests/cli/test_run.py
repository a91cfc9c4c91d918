"""``neverblock run`` beside ``python``: the same program, the same behaviour, our loop."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.servers.serving import PATIENCE, without_watch

FACTS = """
import asyncio, json, os, sys
print(json.dumps({
    "argv": sys.argv, "path0": sys.path[0], "name": __name__, "file": __file__,
    "package": __package__, "cached": globals().get("__cached__"),
    "spec": getattr(__spec__, "name", None), "loader": type(__loader__).__name__,
    "doc": __doc__, "main": sys.modules["__main__"].__dict__ is globals(),
    "names": sorted(name for name in globals() if name not in ("asyncio", "json", "os", "sys")),
}))
"""

RAISE_FROM = """
def inner(): raise KeyError('x')
try: inner()
except KeyError as e: raise OSError(2) from e
"""

RAISE_IN_TASK = """
import asyncio
async def main(): raise LookupError('in a task')
try: asyncio.run(main())
except LookupError as error: print(error)
"""

PICKLE_AT_EXIT = """
import atexit, pickle
class Own: pass
atexit.register(lambda: print(len(pickle.dumps(Own()))))
"""


def launch(*arguments: str, cwd: Path, python: bool, **options) -> subprocess.CompletedProcess:
    own = () if python else ("-m", "neverblock", "run")
    return subprocess.run(
        [sys.executable, *own, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=cwd,
        check=False,
        **options,
    )


def same(*arguments: str, cwd: Path, **options) -> subprocess.CompletedProcess:
    """Run a program with ``python`` and with ``neverblock run``; they must not differ."""
    theirs = launch(*arguments, cwd=cwd, python=True, **options)
    ours = launch(*arguments, cwd=cwd, python=False, **options)
    assert (ours.returncode, ours.stdout, without_watch(ours.stderr)) == (
        theirs.returncode,
        theirs.stdout,
        theirs.stderr,
    )
    return ours


@pytest.mark.parametrize(
    "program",
    [
        "asyncio.run(main())",
        "loop = asyncio.new_event_loop(); loop.run_until_complete(main()); loop.close()",
        "with asyncio.Runner() as runner: runner.run(main())",
        pytest.param(
            "loop = asyncio.get_event_loop(); loop.run_until_complete(main()); loop.close()",
            marks=pytest.mark.skipif(
                sys.version_info >= (3, 14), reason="get_event_loop() makes no loop from 3.14 on"
            ),
        ),
    ],
)
def test_every_way_to_a_loop_gives_ours(tmp_path: Path, program: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import asyncio\n"
        "async def main():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    print(type(loop).__module__, type(loop).__name__, loop.backend, loop.get_debug())\n"
        f"{program}\n"
    )
    default = launch(str(script), cwd=tmp_path, python=False)
    assert default.stdout.startswith("neverblock.loop Loop "), default.stderr
    assert default.stdout.endswith(" False\n")
    chosen = launch("--backend", "poll", "--debug", str(script), cwd=tmp_path, python=False)
    assert chosen.stdout == "neverblock.loop Loop poll True\n"


@pytest.mark.parametrize("arguments", [(), ("one", "--two", "-m", "--help", "--", "--debug", "")])
def test_a_script_sees_what_python_shows_it(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "facts.py").write_text(f'"""Facts."""\n{FACTS}')
    (tmp_path / "place").mkdir()
    same("facts.py", *arguments, cwd=tmp_path)
    same(str(tmp_path / "facts.py"), *arguments, cwd=tmp_path / "place")
    (tmp_path / "place" / "link.py").symlink_to(tmp_path / "facts.py")
    same("place/link.py", *arguments, cwd=tmp_path)


@pytest.mark.parametrize("arguments", [(), ("one", "--two", "-m", "--help", "--", "--debug", "")])
def test_a_module_sees_what_python_shows_it(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "facts.py").write_text(FACTS)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(f"from . import part\n{FACTS}")
    (package / "part.py").write_text(FACTS)
    for module in ("facts", "package", "package.part"):
        same("-m", module, *arguments, cwd=tmp_path)


def test_a_directory_and_an_archive_are_programs_too(tmp_path: Path) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__main__.py").write_text(f"import part\n{FACTS}")
    (tmp_path / "program" / "part.py").write_text("")
    with zipfile.ZipFile(tmp_path / "program.pyz", "w") as archive:
        for name in ("__main__.py", "part.py"):
            archive.write(tmp_path / "program" / name, name)
    for program in ("program", "program.pyz"):
        assert '"argv"' in same(program, "x", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "body",
    [
        "pass",
        "sys.exit()",
        "sys.exit(3)",
        "sys.exit('a message')",
        "raise SystemExit(True)",
        "1 / 0",
        RAISE_FROM,
        "import absent_module",
        "raise KeyboardInterrupt",
        "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])",
        "import atexit; atexit.register(print, 'at exit'); 1 / 0",
        "def hook(*args): print('hook', args[0].__name__)\nsys.excepthook = hook\n1 / 0",
        "import threading\nthreading.Thread(target=lambda: print(late)).start()\nlate = 'late'",
        RAISE_IN_TASK,
        "os.kill(os.getpid(), 15)",
        "os._exit(7)",
        "import pickle\nclass Own: pass\nprint(type(pickle.loads(pickle.dumps(Own()))) is Own)",
        PICKLE_AT_EXIT,
        "print(sys.stdin.read())",
        "import inspect\ndef own(): return 1\nprint(inspect.getsource(own))",
        "def broken(:",
        "import warnings; warnings.warn('mind the gap')",
    ],
)
@pytest.mark.parametrize("as_module", [False, True])
def test_ends_as_under_python(tmp_path: Path, body: str, as_module: bool) -> None:
    (tmp_path / "program.py").write_text(f"import os, sys\n{body}\n")
    arguments = ("-m", "program") if as_module else ("program.py",)
    theirs = launch(*arguments, cwd=tmp_path, python=True, input="typed")
    ours = launch(*arguments, cwd=tmp_path, python=False, input="typed")
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    # python -m shows two lines of runpy, which say nothing of the program.
    assert without_watch(ours.stderr).splitlines() == [
        line for line in theirs.stderr.splitlines() if "<frozen runpy>" not in line
    ]


def test_an_interrupt_in_a_running_loop_ends_the_program_as_under_python(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import asyncio\n"
        "async def main():\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "    finally:\n"
        "        print('cleaned up', flush=True)\n"
        "asyncio.run(main())\n"
    )
    for own in ((), ("-m", "neverblock", "run")):
        with subprocess.Popen(
            [sys.executable, *own, "program.py"],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout.readline() == "ready\n"
            os.kill(process.pid, signal.SIGINT)
            output, trace = process.communicate(timeout=PATIENCE)
        assert output == "cleaned up\n"
        assert process.returncode == -signal.SIGINT
        assert (
            f'Traceback (most recent call last):\n  File "{tmp_path}/program.py", line 8' in trace
        )
        assert "cli/run.py" not in trace
        assert trace.endswith("KeyboardInterrupt\n")


def test_processes_of_multiprocessing_find_the_program(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import multiprocessing\n"
        "def double(n): return 2 * n\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(double, [1, 2]))\n"
    )
    assert same("program.py", cwd=tmp_path).stdout == "[2, 4]\n"
    assert same("-m", "program", cwd=tmp_path).stdout == "[2, 4]\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.py",), "no file absent.py; name a script, or a module with: neverblock run -m"),
        (("--backend", "kqueu", "x.py"), 'backend "kqueu": unknown; use one of '),
        ((), "Missing argument"),
    ],
)
def test_refuses_in_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    refused = launch(*arguments, cwd=tmp_path, python=False)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_missing_module_is_refused_as_by_python(tmp_path: Path) -> None:
    same("-m", "absent_module", cwd=tmp_path)
