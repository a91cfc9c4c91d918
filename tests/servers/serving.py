"""Servers for tests: one in the running loop, one as a process of its own."""

import asyncio
import io
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import pytest

from neverblock.cli import main
from neverblock.servers import MODELS, Options, Settings
from neverblock.servers.handler import AnyHandler
from neverblock.servers.listen import listen
from neverblock.servers.loop import LoopServer
from tests.servers.tls.client import ClientSocket

ROOT = Path(__file__).parents[2]

#: Seconds after which something that should come at once counts as never coming.
PATIENCE = 60.0


#: Every model, and the loop's with workers: options of the command line.
WAYS = [*(("--model", model) for model in MODELS), ("--workers", "2")]


#: What each report of the watch begins with; its other lines are indented.
WATCH = re.compile("neverblock: (?:the )?loop ")


@dataclass
class InLoop:
    """A server in the running loop."""

    server: LoopServer
    url: str

    async def connect(self) -> socket.socket:
        """A client's socket, for the loop's sock_* calls."""
        return await connect(self.url)


@asynccontextmanager
async def serving(
    handler: AnyHandler, url: str = "tcp://127.0.0.1:0", **options: Unpack[Options]
) -> AsyncIterator[InLoop]:
    with listen(url) as listener:
        server = LoopServer(handler, [listener], Settings(**options))
        await server.start()
        try:
            yield InLoop(server, listener.url)
        finally:
            server.stop_accepting()
            server.abort()
            async with asyncio.timeout(PATIENCE):
                await server.wait_idle()


async def connect(url: str) -> socket.socket:
    loop = asyncio.get_running_loop()
    family, address = address_of(url)
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    await loop.sock_connect(sock, address)
    return sock


def address_of(url: str) -> tuple[int, str | tuple[str, int]]:
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        return socket.AF_UNIX, rest
    host, _, port = rest.rpartition(":")
    host = host.strip("[]").replace("*", "127.0.0.1")
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, int(port))


async def received(sock: socket.socket) -> bytes:
    """All that comes until the other side ends it."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    while chunk := await loop.sock_recv(sock, 65536):
        data += chunk
    return bytes(data)


def exactly(sock: socket.socket, n: int) -> bytes:
    """The next ``n`` bytes, or what comes until the other side ends it."""
    data = b""
    while len(data) < n and (chunk := sock.recv(n - len(data))):
        data += chunk
    return data


def reset(sock: socket.socket) -> None:
    """Close a TCP connection the rude way."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


@dataclass
class Process:
    """A server that ``neverblock serve`` runs."""

    process: "subprocess.Popen[str]"
    lines: list[str]
    log: str = ""
    """What it logged, as far as it was waited for."""
    context: ssl.SSLContext | None = None
    """What its clients need to know for TLS; None: nothing."""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return self.lines[0].split()[2]

    def connect(self, line: int = 0) -> Any:
        """A client, a socket or what acts as one, of the bind on that line."""
        return self.secured(self.open(line))

    def open(self, line: int = 0) -> socket.socket:
        """A client that has only connected: where there is TLS, it has not yet begun."""
        family, address = address_of(self.lines[line].split()[2])
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock

    def secured(self, sock: socket.socket) -> socket.socket | ClientSocket:
        """A client that opened, once it is ready to speak."""
        return sock if self.context is None else ClientSocket(sock, self.context)

    def send(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.pid, number)

    def wait_until_logged(self, text: str) -> None:
        assert self.process.stderr is not None
        while text not in self.log:
            line = self.process.stderr.readline()
            assert line, f"ended without logging {text!r}: {self.log}"
            self.log += line

    @property
    def own_log(self) -> str:
        """The same without what the watch tells."""
        return without_watch(self.log)

    def wait(self) -> int:
        """Wait until it ends; the exit code."""
        assert self.process.stderr is not None
        code = self.process.wait(PATIENCE)
        self.log += self.process.stderr.read()
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.send(number)
        return self.wait()


def without_watch(log: str) -> str:
    """A log without what the watch tells: on a busy machine it may have something to say."""
    kept = []
    watch = False
    for line in log.splitlines(keepends=True):
        watch = bool(WATCH.search(line)) or (watch and line.startswith("    "))
        if not watch:
            kept.append(line)
    return "".join(kept)


@contextmanager
def served(
    handler: str | None,
    *options: str,
    binds: tuple[str, ...] = ("tcp://127.0.0.1:0",),
    python: tuple[str, ...] = (),
    wrapper: tuple[str, ...] = (),
    context: ssl.SSLContext | None = None,
    lines: int | None = None,
) -> Iterator[Process]:
    """``neverblock serve``, as soon as it says that it listens: ``lines`` times, or once a bind.

    ``wrapper`` stands before the command, and becomes it in the end (execve(2)).
    """
    command = [*wrapper, sys.executable, *python, "-m", "neverblock", "serve", *options]
    if handler is not None:
        command.append(handler)
    for bind in binds:
        command += ["--bind", bind]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        try:
            expected = range(len(binds) if lines is None else lines)
            said = [process.stdout.readline().rstrip("\n") for _ in expected]
            server = Process(process, said, context=context)
            if not all(line.startswith("listening on ") for line in server.lines):
                server.wait()
                raise AssertionError(server.log)
            yield server
        finally:
            process.kill()


def neverblock(
    *arguments: str, cwd: Path = ROOT, wrapper: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run the command line to its end."""
    return subprocess.run(
        [*wrapper, sys.executable, "-m", "neverblock", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=cwd,
        check=False,
    )


def neverblock_here(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The same in this process: quick, for what is refused before a handler is loaded."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = main(list(arguments))
    return subprocess.CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())


def powerless(*capabilities: str) -> tuple[str, ...]:
    """What to put before a command so that it lacks these capabilities(7) of root."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root may do what is refused here, and setpriv(1) is not there to forbid it")
    without = ",".join(f"-{capability}" for capability in capabilities)
    return "setpriv", f"--bounding-set={without}", f"--inh-caps={without}"
