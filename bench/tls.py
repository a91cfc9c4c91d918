"""What an echo over TLS costs the server's process: ours, and asyncio's own ssl beside it.

    python -m bench.tls [--rounds 5] [--connections 20] [--size 1024] [--seconds 3]

Each server is a process; a client of this process keeps every connection busy with one echo at a
time. Printed for each: CPU time of the whole server process (user and system, microseconds) per
echo, least and median over the rounds, in which the servers take turns; and echoes in a second. The
certificate is made by the openssl command.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import selectors
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, chdir
from pathlib import Path
from statistics import median

import neverblock
from neverblock.servers import Stream

CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
    "-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
)

#: What runs, and with what TLS.
SERVERS = {
    "handler": "async def handle(stream), our loop and TLS",
    "reader-writer": "async def handle(reader, writer), our loop and TLS",
    "streams": "asyncio.start_server(ssl=…), asyncio's loop and TLS",
    "protocol": "loop.create_server(ssl=…), asyncio's loop and TLS",
    "streams-ours": "asyncio.start_server(ssl=…), our loop, asyncio's TLS",
    "protocol-ours": "loop.create_server(ssl=…), our loop, asyncio's TLS",
    "plain": "async def handle(stream), our loop, no TLS",
}


async def handle(stream: Stream) -> None:
    async for chunk in stream:
        await stream.send(chunk)


async def handle_streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]


def tell(url: str, *_: str) -> None:
    print(url.rpartition(":")[2], flush=True)


async def serve_by_asyncio(kind: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("cert.pem", "key.pem")
    if kind == "streams":
        server = await asyncio.start_server(handle_streams, "127.0.0.1", 0, ssl=context)
    else:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=context)
    tell(f":{server.sockets[0].getsockname()[1]}")
    await server.serve_forever()


def be_server(name: str) -> None:
    kind, _, ours = name.partition("-")
    match kind:
        case "handler":
            server = neverblock.Server(handle, certfile="cert.pem", keyfile="key.pem")
        case "reader":
            server = neverblock.Server(handle_streams, certfile="cert.pem", keyfile="key.pem")
        case "plain":
            server = neverblock.Server(handle)
        case _:
            return (neverblock.run if ours else asyncio.run)(serve_by_asyncio(kind))
    server.run(listening=tell)
    return None


def measure(name: str, options: argparse.Namespace) -> tuple[float, float]:
    """Microseconds of CPU per echo, and echoes in a second."""
    command = [sys.executable, "-m", "bench.tls", "--serve", name]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with (
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        ) as server,
        ExitStack() as opened,
    ):
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            context = None if name == "plain" else ssl.create_default_context(cafile="cert.pem")
            clients = [
                opened.enter_context(connect(port, context)) for _ in range(options.connections)
            ]
            exchange(clients, options.size, 0.3)
            before = cpu_seconds(server.pid)
            echoes, seconds = exchange(clients, options.size, options.seconds)
            return (cpu_seconds(server.pid) - before) / echoes * 1e6, echoes / seconds
        finally:
            server.terminate()


def connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock if context is None else context.wrap_socket(sock, server_hostname="localhost")


def exchange(clients: list[socket.socket], size: int, seconds: float) -> tuple[int, float]:
    """Keep each busy; how many echoes came, in how many seconds."""
    message = bytes(size)
    missing = dict.fromkeys(clients, size)
    start = time.monotonic()
    echoes = 0
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
            client.sendall(message)
        while missing:
            for key, _ in selector.select():
                client = key.fileobj  # type: ignore[assignment]
                # Of one record only: what is left in it would not be reported.
                missing[client] -= len(client.recv(max(size, 16384)))
                if missing[client]:
                    continue
                echoes += 1
                if time.monotonic() - start < seconds:
                    missing[client] = size
                    client.sendall(message)
                else:
                    del missing[client]
    return echoes, time.monotonic() - start


def cpu_seconds(pid: int) -> float:
    """The process's own, up to now (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tls", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return be_server(options.serve)
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in SERVERS}
    with tempfile.TemporaryDirectory(prefix="neverblock-bench-") as directory, chdir(directory):
        subprocess.run(CERTIFICATE.split(), check=True, capture_output=True)
        for _ in range(options.rounds):
            for name, found in results.items():
                found.append(measure(name, options))
    print(f"{'CPU µs per echo':>55}  least median   echoes/s")
    for name, found in results.items():
        cpu, rate = zip(*found, strict=True)
        print(f"{SERVERS[name]:55} {min(cpu):6.1f} {median(cpu):6.1f} {median(rate):10.0f}")
    return None


if __name__ == "__main__":
    main()
