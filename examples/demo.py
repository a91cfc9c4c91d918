"""The demo: a key-value server in one thread, ten thousand idle clients, and redis-py at work.

    make demo
    python examples/demo.py --backend poll --clients 2000

It starts `neverblock serve examples/keyvalue.py:handle` as a process of its own, measures it with
redis-py, connects the crowd, and measures again. Every reply is checked.
"""

import itertools
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
import redis
from hdrh.histogram import HdrHistogram
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

HANDLER = Path(__file__).with_name("keyvalue.py")

#: Descriptors a process needs beside those of the crowd.
SPARE = 64
#: Clients per source address: each address has its own ports, about 28,000 of them (ip(7)).
PER_ADDRESS = 20_000
#: Clients of the crowd that ask together.
BATCH = 200
IP_BIND_ADDRESS_NO_PORT = 24  # Of Linux; the socket module has it from Python 3.12 on.
#: Commands that redis-py sends together.
PIPELINE = 100
#: Seconds that a reply may take before it counts as missing.
PATIENCE = 20.0

RIGHT, WRONG, REFUSED = 0, 1, 3


class WrongReplyError(Exception):
    """The server answered something else than it must."""


@dataclass
class Figures:
    """What redis-py found."""

    latencies: HdrHistogram  # Nanoseconds, one command after another.
    seconds: float = 0.0
    pipelined: int = 0
    pipelined_seconds: float = 0.0

    def latency(self, percentile: float) -> str:
        return f"{self.latencies.get_value_at_percentile(percentile) / 1000:,.0f} µs"

    @property
    def one_by_one(self) -> str:
        return f"{self.latencies.get_total_count() / self.seconds:,.0f}"

    @property
    def in_pipelines(self) -> str:
        return f"{self.pipelined / self.pipelined_seconds:,.0f}"


class Server:
    """``neverblock serve`` as a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        assert process.stdout is not None
        self.process = process
        self.log = log
        self.line = process.stdout.readline().strip()
        if not self.line.startswith("listening on tcp://"):
            process.wait()
            raise click.ClickException(f"the server did not start: {log.read_text().strip()}")
        host, _, port = self.line.split()[2].removeprefix("tcp://").rpartition(":")
        self.address = host, int(port)

    def status(self, name: str) -> int | None:
        """A number of proc(5)'s status; memory is in KiB. None: not on this system."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return None
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

    def threads(self) -> str:
        """How many it has: those of the watch, which runs beside the loop, are told apart."""
        try:
            tasks = list(Path(f"/proc/{self.process.pid}/task").iterdir())
        except OSError:
            return "unknown"
        watch = sum(task.joinpath("comm").read_text() == "nb-watch\n" for task in tasks)
        return f"{len(tasks) - watch}" + (f", and {watch} of the watch" if watch else "")

    def complaint(self) -> str:
        """The last error it logged."""
        errors = [line for line in self.log.read_text().splitlines() if " ERROR " in line]
        return errors[-1].partition(" ERROR ")[2].partition(": ")[2] if errors else ""

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@contextmanager
def served(backend: str | None) -> Iterator[Server]:
    command = [sys.executable, "-m", "neverblock", "serve", f"{HANDLER}:handle"]
    command += ["--bind", "tcp://127.0.0.1:0"]
    command += ["--backend", backend] if backend else []
    with (
        tempfile.NamedTemporaryFile(prefix="neverblock-demo-") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            yield Server(process, Path(log.name))
        finally:
            process.kill()


def allow_descriptors(wanted: int, console: Console) -> int:
    """Raise the limit of this process, which the server inherits, to that many descriptors.

    Returns how many may be had.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, OSError):
            pass  # Only a privileged process may.
        else:
            return wanted
    had = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (had, hard))
    if had < wanted:
        console.print(
            f"[bold yellow]The descriptor limit of this process is {had:,}, and {wanted:,} are "
            f"needed:[/] the crowd will be smaller.\n"
            f"To hold all of it, raise the hard limit: [bold]ulimit -Hn {wanted}[/] as root, or "
            f"[bold]* hard nofile {wanted}[/] in /etc/security/limits.conf and a new login.\n"
        )
    return had


class Crowd:
    """Idle clients, each of which has been answered once."""

    def __init__(self) -> None:
        self.clients: list[socket.socket] = []

    def connect(self, address: tuple[str, int], count: int, advance: Callable[[int], None]) -> bool:
        """Connect so many; False: the server did not keep all of them."""
        for begin in range(0, count, BATCH):
            numbers = range(begin, min(begin + BATCH, count))
            joining = [connect(address, number // PER_ADDRESS) for number in numbers]
            kept = answered(joining)
            self.clients += kept
            advance(len(kept))
            if len(kept) < len(joining):
                for client in set(joining) - set(kept):
                    client.close()
                return False
        return True

    def answered(self, advance: Callable[[int], None]) -> int:
        """How many are still answered."""
        right = 0
        for begin in range(0, len(self.clients), BATCH):
            asking = self.clients[begin : begin + BATCH]
            right += len(answered(asking))
            advance(len(asking))
        return right

    def leave(self) -> None:
        for client in self.clients:
            client.close()


def connect(address: tuple[str, int], source: int) -> socket.socket:
    client = socket.socket()
    client.settimeout(PATIENCE)
    if source:
        # The port is chosen when connecting, so that it may be one that another address uses.
        client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        client.bind((f"127.0.0.{source + 1}", 0))
    client.connect(address)
    return client


def answered(clients: list[socket.socket]) -> list[socket.socket]:
    """Ask for all of them at once; those that get the right answer."""
    for client in clients:
        with suppress(OSError):  # One that was closed shows when its answer is read.
            client.sendall(b"PING\r\n")
    right = []
    for client in clients:
        with suppress(OSError):
            if client.recv(64) == b"+PONG\r\n":
                right.append(client)
    return right


def measure(client: redis.Redis, seconds: float, advance: Callable[[float], None]) -> Figures:
    """Drive the server with redis-py: one command at a time, then in pipelines."""
    figures = Figures(HdrHistogram(1_000, int(PATIENCE * 1e9), 3))
    client.flushdb()
    figures.seconds = one_by_one(client, seconds, figures.latencies, advance)
    figures.pipelined, figures.pipelined_seconds = in_pipelines(client, seconds, advance)
    return figures


def one_by_one(
    client: redis.Redis,
    seconds: float,
    latencies: HdrHistogram,
    advance: Callable[[float], None],
) -> float:
    begun = now = time.perf_counter_ns()
    end = begun + int(seconds * 1e9)
    for number in itertools.count(1):
        key, value = f"key:{number % 1000}", b"value %d" % number
        for command, right in (
            (("SET", key, value), True),
            (("GET", key), value),
            (("INCR", "counter"), number),
        ):
            before = time.perf_counter_ns()
            reply = client.execute_command(*command)
            after = time.perf_counter_ns()
            latencies.record_value(after - before)
            check(reply, right)
        if number % 200 == 0 or after > end:
            advance((after - now) / 1e9)
            now = after
        if after > end:
            break
    return (after - begun) / 1e9


def in_pipelines(
    client: redis.Redis, seconds: float, advance: Callable[[float], None]
) -> tuple[int, float]:
    begun = now = time.perf_counter()
    commands = 0
    while now - begun < seconds:
        with client.pipeline(transaction=False) as pipeline:
            for number in range(PIPELINE // 2):
                pipeline.set(f"key:{number}", f"{commands} {number}")
                pipeline.get(f"key:{number}")
            replies = pipeline.execute()
        check(
            replies,
            [
                reply
                for number in range(PIPELINE // 2)
                for reply in (True, b"%d %d" % (commands, number))
            ],
        )
        commands += PIPELINE
        then, now = now, time.perf_counter()
        advance(now - then)
    return commands, now - begun


def check(reply: object, right: object) -> None:
    if reply != right:
        raise WrongReplyError(f"the server answered {reply!r} where {right!r} is right")


@click.command(
    epilog="""\b
Exit codes:
  0  every reply was right
  1  a reply was wrong or missing
  2  a wrong option
  3  every reply was right, but the server could not keep the whole crowd:
     select(2) watches 1,024 descriptors and no more""",
)
@click.option("--backend", metavar="NAME", help="What the server waits with: epoll, poll, select.")
@click.option("--clients", default=10_000, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--seconds",
    default=3.0,
    show_default=True,
    type=click.FloatRange(min=0.05),
    help="How long each of the four measurements takes.",
)
def main(backend: str | None, clients: int, seconds: float) -> None:
    """A key-value server with ten thousand idle clients, in one thread."""
    console = Console(highlight=False)
    crowd_size = allow_descriptors(clients + SPARE, console) - SPARE
    if crowd_size < 1:
        raise click.ClickException("the descriptor limit leaves none for clients; raise it")
    with served(backend) as server:
        console.print(f"[bold]{server.line}[/]")
        try:
            sys.exit(show(server, crowd_size, seconds, console))
        except (WrongReplyError, redis.RedisError) as error:
            console.print(f"[bold red]{error}[/]")
            console.print(server.log.read_text()[-2000:], markup=False)
            sys.exit(WRONG)


def show(server: Server, clients: int, seconds: float, console: Console) -> int:
    """Run the demo; the exit code."""
    crowd = Crowd()
    host, port = server.address
    columns = (TextColumn("{task.description:<34}"), BarColumn(None), MofNCompleteColumn())
    with (
        redis.Redis(host, port, socket_timeout=PATIENCE, single_connection_client=True) as client,
        Progress(*columns, TimeElapsedColumn(), console=console, expand=True) as progress,
    ):

        def stage(description: str, total: float) -> Callable[[float], None]:
            task = progress.add_task(description, total=total)
            return lambda amount: progress.advance(task, amount)

        alone = measure(client, seconds, stage("redis-py alone, seconds", 2 * seconds))
        before = server.status("VmRSS")
        kept = crowd.connect(server.address, clients, stage("idle clients connect", clients))
        after = server.status("VmRSS")
        crowded = measure(client, seconds, stage("redis-py in the crowd, seconds", 2 * seconds))
        threads = server.threads()
        held = len(crowd.clients)
        still = crowd.answered(stage("each idle client asks once more", held))
    begun = time.perf_counter()
    code = server.stop()
    stopped = time.perf_counter() - begun
    crowd.leave()

    table = Table(title="One thread, many clients", show_header=True, title_style="bold")
    for column in ("", "alone", f"with {held:,} idle clients"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("idle connections held", "0", f"{held:,}")
    table.add_row("threads of the server", "", threads)
    table.add_row("memory per idle connection", "", per_connection(before, after, held))
    table.add_row("commands/s, one after another", alone.one_by_one, crowded.one_by_one)
    table.add_row(f"commands/s, {PIPELINE} in a pipeline", alone.in_pipelines, crowded.in_pipelines)
    table.add_row("latency p50", alone.latency(50), crowded.latency(50))
    table.add_row("latency p99", alone.latency(99), crowded.latency(99))
    table.add_row("SIGTERM until all were let go", "", f"{stopped * 1000:,.0f} ms")
    console.print()
    console.print(table)

    if still < held or code != 0:
        console.print(
            f"[bold red]{held - still:,} idle clients got no right answer; "
            f"the server exited with {code}[/]"
        )
        return WRONG
    if not kept:
        console.print(
            f"[bold red]The server kept {held:,} idle clients of {clients:,}:[/] "
            f"{server.complaint() or 'it closed the next one'}\n"
            f"Those it has go on: every one of them was answered, and so was redis-py."
        )
        return REFUSED
    commands = sum(
        figures.latencies.get_total_count() + figures.pipelined for figures in (alone, crowded)
    )
    console.print(f"[bold green]All of {commands + 2 * held:,} replies were right.[/]")
    return RIGHT


def per_connection(before: int | None, after: int | None, held: int) -> str:
    if before is None or after is None or not held:
        return "unknown"
    return f"{(after - before) / held:.2f} KiB"


if __name__ == "__main__":
    main()
