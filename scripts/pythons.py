"""Print the Pythons to test on: one line "3.12 /path/to/python" for each that serves.

One serves that runs (a version manager's shim may not), makes virtual environments, has the C
headers and carries CPython's own asyncio tests. Looked for on PATH and among pyenv's versions,
the newest patch release first; the Python that runs this script stands for its own version.
What is left out is told on standard error, with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

WANTED = ("3.11", "3.12", "3.13", "3.14", "3.15")

PROBE = """
import importlib.util, json, os, sys, sysconfig
lacks = [name for name in ("venv", "ensurepip", "test.test_asyncio")
         if not importlib.util.find_spec(name)]
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    lacks.append("Python.h")
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "lacks": lacks}))
"""


def candidates(version: str) -> Iterator[Path]:
    """Yield where an interpreter of this version may be, the preferred ones first."""
    if version == own_version():
        yield Path(sys._base_executable)  # type: ignore[attr-defined]  # not the environment's
        return
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        yield Path(folder, f"python{version}")
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    releases = versions.glob(f"{version}.*/bin/python")
    yield from sorted(releases, key=lambda path: patch(path.parts[-3]), reverse=True)


def own_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def patch(release: str) -> int:
    """The 7 of "3.11.7", and -1 for what is no plain release."""
    last = release.rpartition(".")[2]
    return int(last) if last.isdigit() else -1


def lacking(path: Path, version: str) -> list[str] | None:
    """What an interpreter lacks to be tested on; None where it does not run as this version."""
    try:
        answer = subprocess.run(
            [path, "-I", "-c", PROBE], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = json.loads(answer.stdout)
    return list(found["lacks"]) if found["version"] == version else None


def choose(version: str) -> tuple[Path | None, str]:
    """The interpreter for a version, or None and why there is none."""
    reason = "not found on PATH or among pyenv's versions"
    for path in candidates(version):
        lacks = lacking(path, version) if path.exists() else None
        if lacks == []:
            return path, ""
        if lacks:
            reason = f"{path} lacks {', '.join(lacks)}"
    return None, reason


def main() -> None:
    for version in sorted({*WANTED, own_version()}, key=lambda text: int(text.split(".")[1])):
        path, reason = choose(version)
        if path is None:
            print(f"Python {version} is left out: {reason}", file=sys.stderr)
        else:
            print(version, path)


if __name__ == "__main__":
    main()
