"""The C programs of the suite, built on the spot from `native/`."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError

SOURCES = Path(__file__).parent / "native"
FLAGS = ("-O2", "-std=c11", "-Wall", "-Wextra")


def compiler() -> list[str]:
    """The C compiler's command: `$CC`, else `cc`."""
    return shlex.split(os.environ.get("CC", "cc"))


def compiler_version() -> str:
    """The first line of what the compiler says it is."""
    try:
        output = subprocess.run(
            [*compiler(), "--version"], check=False, capture_output=True, text=True
        )
    except OSError as error:
        return f"none ({error.strerror})"
    return (output.stdout.splitlines() or ["unknown"])[0]


@contextmanager
def built() -> Iterator[Path]:
    """A directory that holds every program of `native/`, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="neverblock-bench-") as directory:
        for source in sorted(SOURCES.glob("*.c")):
            target = Path(directory, source.stem)
            try:
                result = subprocess.run(
                    [*compiler(), *FLAGS, "-o", str(target), str(source)],
                    check=False,
                    capture_output=True,
                    text=True,
                )
            except OSError as error:
                raise BenchError(
                    f"no C compiler: {compiler()[0]}: {error.strerror}; install one or set CC"
                ) from None
            if result.returncode:
                raise BenchError(f"{source.name} does not compile:\n{result.stderr}")
        yield Path(directory)
