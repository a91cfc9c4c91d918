"""The package as pip builds it: what a wheel holds, and an editable install without build tools.

Builds go on in the build directory that `make` names, so what is compiled already is not again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import neverblock

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "neverblock"
BIN = Path(sys.executable).parent
#: Compiled only on systems that have the call.
OPTIONAL = {f"neverblock/multiplexers/{name}" for name in ("epoll", "io_uring", "kqueue")}

pytestmark = pytest.mark.timeout(600)  # where nothing is compiled yet


@pytest.fixture(scope="module")
def build_options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = os.environ.get("NEVERBLOCK_BUILD") or tmp_path_factory.mktemp("build")
    return ["--no-build-isolation", "--no-deps", f"--config-settings=build-dir={folder}"]


def pip(*arguments: str) -> None:
    """Run pip as in an activated environment, away from the tree's own files."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(
    build_options: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", *build_options, f"--wheel-dir={folder}", str(ROOT))
    [path] = folder.iterdir()
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_holds_the_package_and_no_build_files(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    compiled = {name for name in held if name.endswith(".so")}
    expected = {
        f"neverblock/{path.relative_to(SOURCE)}"
        for path in SOURCE.rglob("*")
        if path.is_file()
        and path.suffix not in {".pyx", ".h", ".pyc"}
        and path.name != "meson.build"
    }
    assert held - compiled == expected
    assert "neverblock/py.typed" in held


def test_wheel_holds_every_compiled_module(wheel: zipfile.ZipFile) -> None:
    compiled = {name.partition(".")[0] for name in wheel.namelist() if name.endswith(".so")}
    sources = {
        f"neverblock/{path.relative_to(SOURCE).with_suffix('')}" for path in SOURCE.rglob("*.pyx")
    }
    assert compiled <= sources
    assert sources - compiled <= OPTIONAL


def test_wheel_installs_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    [info] = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    assert "neverblock = neverblock.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert f"{info}/licenses/LICENSE" in wheel.namelist()


def test_editable_install_needs_no_build_tools_to_be_imported(
    build_options: list[str], tmp_path: Path
) -> None:
    pip("install", *build_options, f"--target={tmp_path}", "--editable", str(ROOT))
    program = (
        f"import site; site.addsitedir({str(tmp_path)!r}); "
        "import neverblock.multiplexers.base as base; print(base.__file__)"
    )
    bare = {"PATH": "/usr/bin:/bin", "NINJA": ""}
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        env=bare,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert not found.stdout.startswith(str(tmp_path)), "it was copied, not left where it is built"


def test_the_command_tells_the_version() -> None:
    told = subprocess.run(
        [BIN / "neverblock", "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert neverblock.__version__ in told
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", neverblock.__version__)
