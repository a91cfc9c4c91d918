"""Programs of the system that a test needs: found, tried out, or the reason to skip."""

import os
import shutil
import subprocess

import pytest

from tests.servers.serving import PATIENCE

#: The Debian packages that have them (`make system-packages`).
PACKAGES = {
    "chromium": "chromium",
    "curl": "curl",
    "openssl": "openssl",
    "prlimit": "util-linux",
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
    "setpriv": "util-linux",
    "socat": "socat",
    "strace": "strace",
    "taskset": "util-linux",
    "redis-server": "redis-server",
    "wrk": "wrk",
}


def tool(name: str) -> str:
    """Its path."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on PATH; Debian has it in {PACKAGES[name]}")
    return path


def tried(*wrapper: str) -> tuple[str, ...]:
    """What to put before a command, if that is allowed here."""
    done = subprocess.run([*wrapper, "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{wrapper[0]} may not do it here: {done.stderr.strip()}")
    return wrapper


def unsanitized() -> dict[str, str]:
    """An environment for programs of others: sanitizers are preloaded for our own (`make asan`)."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def output(name: str, *arguments: str, given: str = "") -> str:
    """What a program says, run to its end."""
    done = subprocess.run(
        [tool(name), *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=unsanitized(),
        check=False,
    )
    said = f"{name} {' '.join(arguments)}: {done.stdout}{done.stderr}"
    assert done.returncode == 0, said
    return done.stdout
