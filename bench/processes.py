"""Processes under measurement: starting and ending servers, reading memory and descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.errors import BenchError, Unsupported
from bench.loops import C_SERVER

ROOT = Path(__file__).parent.parent


def environment() -> dict[str, str]:
    """The environment of every child: ours without what changes a loop's speed."""
    changes_speed = ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONMALLOC", "NEVERBLOCK_BACKEND")
    return {name: value for name, value in os.environ.items() if name not in changes_speed}


def run(command: list[str], timeout: float) -> str:
    """The standard output of a child, or `BenchError` with the last line of its standard error."""
    try:
        result = subprocess.run(
            command,
            check=False,
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"no result within {timeout:g} s") from None
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        raise BenchError(lines[-1] if lines else f"ended with status {result.returncode}")
    return result.stdout


@dataclass
class Server:
    """A running echo server."""

    process: subprocess.Popen[str]
    address: str

    @property
    def pid(self) -> int:
        return self.process.pid

    def collect_garbage(self) -> None:
        self.process.stdin.write("collect\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "collected\n":
            raise BenchError("the server ended")

    def private_bytes(self) -> int:
        """Memory of this process alone, in bytes (USS; proc_pid_smaps_rollup(5))."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        fields = (line.split() for line in text.splitlines() if line.startswith("Private_"))
        return sum(int(field[1]) for field in fields) * 1024

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def wait_descriptors(self, wanted: int, timeout: float) -> bool:
        """Until it has that many descriptors open; false if it has not in time (seconds)."""
        deadline = time.monotonic() + timeout
        while self.descriptors() != wanted:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def wait_idle(self, timeout: float = 30.0) -> None:
        """Until it used no processor time for a while: it dealt with all it was given."""
        deadline = time.monotonic() + timeout
        before = -1
        while (now := self.cpu_ns()) != before:
            if time.monotonic() > deadline:
                raise BenchError("the server does not come to rest")
            before = now
            time.sleep(0.2)

    def cpu_ns(self, name: str = "") -> int:
        """Processor time of its threads, of that name or all (/proc/PID/task/TID/schedstat)."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(
            int((task / "schedstat").read_text().split()[0])
            for task in tasks
            if not name or (task / "comm").read_text().strip() == name
        )


@contextmanager
def serving(
    loop: str, kind: str, programs: Path, bind: str = "tcp:0", core: int = -1
) -> Iterator[Server]:
    """A server of that kind on that loop, or the bare C server; killed afterwards."""
    if loop == C_SERVER:
        command = [str(programs / "echo_server"), "--bind", bind, "--core", str(core)]
    else:
        command = [sys.executable, "-m", "bench.server", "--loop", loop, "--kind", kind]
        command += ["--bind", bind, "--core", str(core)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            said, _, address = process.stdout.readline().strip().partition(" ")
            if said == "unsupported":
                raise Unsupported(address)
            if said != "listening":
                raise BenchError(f"the server did not start: {last_line(errors)}")
            yield Server(process, address)
            if process.poll() is not None:
                raise BenchError(f"the server ended: {last_line(errors)}")
        finally:
            process.kill()
            process.communicate()


def last_line(file: IO[str]) -> str:
    file.seek(0)
    lines = file.read().strip().splitlines()
    return lines[-1] if lines else "no output"
