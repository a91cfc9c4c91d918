"""Server and serve in programs: beside a test, alone until a signal, what they refuse."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import neverblock
from neverblock import errors
from neverblock.servers import MODELS, Options, Settings, Stream
from tests.servers.conftest import Run
from tests.servers.serving import (
    PATIENCE,
    ROOT,
    address_of,
    connect,
    exactly,
    served,
    serving,
)


async def pid(stream: Stream) -> None:
    async for _ in stream:
        await stream.send(f"{stream.info.model} {os.getpid()}".encode())


async def deaf(stream: Stream) -> None:
    await stream.receive_exactly(1)  # Of several: it waits for the rest of a message.
    await stream.send(b"hello")
    await stream.receive_exactly(100)


def connected(url: str) -> socket.socket:
    family, address = address_of(url)
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    sock.connect(address)
    return sock


@pytest.mark.parametrize("model", MODELS)
def test_serves_beside_the_program(model: str, tmp_path: Path) -> None:
    binds = ["tcp://127.0.0.1:0", f"unix://{tmp_path}/app.sock"]
    with neverblock.Server(pid, binds, model=model) as server:
        assert server.url == server.urls[0] != binds[0]
        assert server.urls[1] == binds[1]
        for url in server.urls:
            with connected(url) as client:
                client.sendall(b"?")
                name, number = client.recv(100).decode().split()
            assert name == model
            assert (int(number) == os.getpid()) == (model != "process")
    assert not Path(f"{tmp_path}/app.sock").exists()
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(PATIENCE)
            assert not thread.is_alive()


ON_ANOTHER_LOOP = """
import asyncio, sys
import neverblock, uvloop
from tests.servers.test_server import by_writer, pid

async def main():
    tell = lambda url, model, backend: print(url, flush=True)
    handler = {"stream": pid, "writer": by_writer}[sys.argv[1]]
    await neverblock.serve(handler, "tcp://127.0.0.1:0", listening=tell)

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


async def by_writer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"loop %d" % os.getpid())
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("handler", ["stream", "writer"])
def test_serves_on_another_loop(handler: str) -> None:
    pytest.importorskip("uvloop")
    command = [sys.executable, "-c", ON_ANOTHER_LOOP, handler]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with connected(url) as client:
            client.sendall(b"?")
            assert client.recv(100).decode() == f"loop {process.pid}"
        process.terminate()
        assert process.wait(PATIENCE) == 0


class Lacking(asyncio.SelectorEventLoop):
    """Without some of what loops may leave out."""

    async def connect_accepted_socket(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError

    def add_reader(self, fd: Any, *arguments: Any) -> None:
        if not isinstance(fd, int):
            raise TypeError("descriptors are numbers")
        super().add_reader(fd, *arguments)


@pytest.mark.parametrize("handler", [pid, by_writer])
def test_serves_on_a_loop_that_lacks_something(handler: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving(handler) as server, asyncio.timeout(PATIENCE):
            with await server.connect() as client:
                await loop.sock_sendall(client, b"?")
                assert await loop.sock_recv(client, 100) == b"loop %d" % os.getpid()

    with asyncio.Runner(loop_factory=Lacking) as runner:
        runner.run(main())


@pytest.mark.parametrize("model", MODELS)
def test_its_end_drains(model: str) -> None:
    with neverblock.Server(deaf, model=model, drain_timeout=0.1) as server:
        client = connected(server.url)
        client.sendall(b"half")
        assert exactly(client, 5) == b"hello"
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_backend_may_be_named(backend: str) -> None:
    async def which(stream: Stream) -> None:
        await stream.send(stream.info.backend.encode())

    with neverblock.Server(which, backend=backend) as server, connected(server.url) as client:
        assert client.recv(100) == backend.encode()


@pytest.mark.parametrize("model", ["loop", "process"])
def test_what_hinders_it_is_raised_where_it_begins(model: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        server = neverblock.Server(pid, url, model=model)
        with pytest.raises(errors.BindError, match="is in use"), server:
            pytest.fail("it began")


def test_a_drain_that_is_cancelled_resets_what_is_open(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listening: asyncio.Future[str] = loop.create_future()

        def tell(url: str, *_: str) -> None:
            listening.set_result(url)

        serving = loop.create_task(
            neverblock.serve(deaf, "tcp://127.0.0.1:0", listening=tell, drain_timeout=600)
        )
        url = await listening
        with await connect(url) as idle, await connect(url) as client:
            await loop.sock_sendall(client, b"half")
            assert await loop.sock_recv(client, 5) == b"hello"
            os.kill(os.getpid(), signal.SIGTERM)
            assert await loop.sock_recv(idle, 1) == b""  # It drains.
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(client, 1)

    run(main())


async def stop_the_loop(stream: Stream) -> None:
    asyncio.get_running_loop().stop()


def test_what_ended_it_is_raised_at_its_end() -> None:
    server = neverblock.Server(stop_the_loop)
    with pytest.raises(RuntimeError, match="stopped before"), server:
        [thread] = [each for each in threading.enumerate() if each.name == "neverblock server"]
        with connected(server.url):
            thread.join(PATIENCE)
        assert not thread.is_alive()


def test_it_serves_again_and_again() -> None:
    server = neverblock.Server(pid)
    for _ in range(3):
        with server, connected(server.url) as client:
            client.sendall(b"?")
            assert client.recv(100).startswith(b"loop")
        with pytest.raises(RuntimeError, match="does not serve"):
            server.url  # noqa: B018


def test_it_serves_once_at_a_time() -> None:
    with neverblock.Server(pid) as server, pytest.raises(RuntimeError, match="already"), server:
        pass


def test_options_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(errors.SettingsError, match="there is no 'magic'"):
        neverblock.Server(pid, model="magic")
    with pytest.raises(errors.SettingsError, match="no use for it"):
        neverblock.Server(pid, model="thread", workers=2)
    with pytest.raises(TypeError, match="colour"):
        neverblock.Server(pid, colour="red")  # type: ignore[call-arg]
    with pytest.raises(errors.HandlerError, match="cannot be called"):
        neverblock.Server(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workers": "auto"}, "workers: must be a whole number, like 4, not 'auto'"),
        ({"workers": None}, "workers: must be a whole number, like 4, not None"),
        ({"model": "thread", "stack_size": "256K"}, "stack_size: must be a whole number, like 2"),
        ({"unix_mode": "0660"}, "unix_mode: must be a whole number, like 0o660, not '0660'"),
        ({"max_connections": 1.5}, "max_connections: must be a whole number, like 1000, not 1.5"),
        ({"idle_timeout": "60"}, "idle_timeout: must be a number of seconds, not '60'"),
        ({"alpn": "h2", "certfile": "cert.pem"}, "alpn: must be a tuple, like ('h2',)"),
    ],
)
def test_what_is_no_number_is_refused(options: Any, told: str) -> None:
    with pytest.raises(errors.SettingsError, match=re.escape(told)):
        neverblock.Server(pid, **options)


WATCHING = [
    {"strict": True},
    {"stall_threshold": 0.1},
    {"stall_threshold": 0.1, "on_stall": "shed"},
    {"turn_threshold": 0.1},
    {"stall_log": "stalls.jsonl"},
    {"stall_profile": "stalls.folded"},
    {"stall_annotations": True},
    {"metrics_file": "stalls.prom"},
]


@pytest.mark.parametrize("options", WATCHING, ids=str)
def test_a_loop_that_runs_is_not_watched_by_options(options: Any) -> None:
    with pytest.raises(errors.SettingsError, match="or let neverblock.Server make it") as refused:
        neverblock.run(neverblock.serve(pid, "tcp://127.0.0.1:0", **options))
    assert refused.value.name in options


def test_options_of_a_watch_may_say_that_there_is_none() -> None:
    options = Options(stall_threshold=0.0, on_stall="log", strict=False, stall_log=None)

    def stop(*_: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    served = neverblock.serve(pid, "tcp://127.0.0.1:0", listening=stop, **options)
    assert neverblock.run(served) == 0


def test_the_loops_of_workers_are_watched_by_options() -> None:
    program = """
import neverblock, time

async def handle(stream):
    time.sleep(0.001)
    await stream.send(b"not refused")

tell = lambda url, *_: print(url, flush=True)
options = {"workers": 1, "strict": True}
neverblock.run(neverblock.serve(handle, "tcp://127.0.0.1:0", listening=tell, **options))
"""
    command = [sys.executable, "-c", program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=ROOT, **pipes) as process:
        with connected(process.stdout.readline().strip()) as client:
            assert client.recv(100) == b""
        process.terminate()
        _, log = process.communicate(timeout=PATIENCE)
    assert "BlockingCallError: time.sleep" in log


def test_options_are_the_settings() -> None:
    fields = {name: field.type for name, field in Settings.__dataclass_fields__.items()}
    assert fields == Options.__annotations__


PROGRAM = """
import neverblock

async def handle(stream):
    async for chunk in stream:
        await stream.send(chunk)

server = neverblock.Server(handle, model=MODEL)
print("reset", server.run(listening=lambda url, *_: print(url, flush=True)))
"""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_runs_until_a_signal(model: str, number: int) -> None:
    program = PROGRAM.replace("MODEL", repr(model))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        with connected(process.stdout.readline().strip()) as client:
            client.sendall(b"hello")
            assert exactly(client, 5) == b"hello"
            process.send_signal(number)
            assert process.stdout.read() == "reset 0\n"
        assert process.wait(PATIENCE) == 0


def test_threads_in_a_process_that_forks_are_told(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text(
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "async def handle(stream): pass\n"
    )
    options = ("--model", "process")
    with served(f"{path}:handle", *options) as server:
        server.wait_until_logged("1 other thread runs in the process that forks")
        assert server.stop() == 0
