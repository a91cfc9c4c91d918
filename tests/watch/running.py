"""Programs that are watched, as processes of their own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import time
from types import TracebackType
from typing import Self

PTRACE_ATTACH, PTRACE_DETACH = 16, 17  # <sys/ptrace.h>


def program(text: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


class Running:
    """One that is talked to while it runs."""

    def __init__(self, text: str, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", *options, "-c", textwrap.dedent(text)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()
        if self._process.stdin is not None:
            self._process.stdin.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def line(self) -> str:
        return self._output.readline()

    def until(self, text: str) -> str:
        said = ""
        while not said.endswith(text):
            said += (one := self._output.read(1))
            assert one, said
        return said

    def idle(self, seconds: float) -> None:
        """Leave it as it is: it is this time that must not be taken for a stall."""
        time.sleep(seconds)

    def halt(self, seconds: float) -> None:
        """Stop the process for a while (SIGSTOP)."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)
        time.sleep(0.02)

    def trace(self, seconds: float) -> None:
        """Hold its main thread, and no other, as a debugger does (ptrace(2))."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        libc.ptrace.restype = ctypes.c_long
        if libc.ptrace(PTRACE_ATTACH, self._process.pid, None, None) < 0:
            raise OSError(ctypes.get_errno(), "ptrace")
        os.waitpid(self._process.pid, 0)
        time.sleep(seconds)
        libc.ptrace(PTRACE_DETACH, self._process.pid, None, None)

    def end(self, text: str) -> str:
        """Say that, and what it says until it ends."""
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.close()
        said = self._output.read()
        assert self._process.wait(60) == 0
        return said
