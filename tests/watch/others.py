"""Programs on loops that are not ours, under ``neverblock watch``."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

LOOPS = ("asyncio", "uvloop")

#: How each program here makes its loop run main().
RUN = {"asyncio": "asyncio.run(main())", "uvloop": "import uvloop; uvloop.run(main())"}

#: Its arguments: a directory and the loop.
USUAL_START = Path(__file__).parent / "programs" / "usual_start.py"


def watch(
    *arguments: str | Path, expected: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    process = subprocess.run(
        [sys.executable, "-m", "neverblock", "watch", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, **environment},
        check=False,
    )
    assert process.returncode == expected, process.stderr
    return process


def program(folder: Path, loop: str, text: str) -> Path:
    path = folder / "program.py"
    path.write_text(textwrap.dedent(text) + "\n" + RUN[loop] + "\n")
    return path


def line_of(path: Path, text: str) -> int:
    return path.read_text().splitlines().index(text) + 1
