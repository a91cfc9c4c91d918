"""Does `neverblock load` measure what other tools measure? Held against wrk and redis-benchmark.

    python -m bench.load_references --rounds 20 --seconds 3

The same server, the same number of connections, one client process each, on another core than the
server's. Rounds are interleaved, and the tools change places from round to round; what counts is
the median of each round's own ratio: within 5 % in throughput, and 10 % in p50 and p99. Many short
rounds say more than few long ones: a machine's speed changes within seconds. But not shorter than
3 seconds: to wrk its own start is a part of the time.

Two things to know of the others. A tool that uses all of its core measures itself, so its figures
are shown, and not judged: redis-benchmark does that to redis-server. And wrk corrects its
percentiles for coordinated omission: to a latency of many times the usual one it adds those of the
requests that would have been asked meanwhile. The same is done to ours before the two are compared.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from bench.errors import BenchError
from bench.processes import ROOT, environment, run
from neverblock.load import Plan
from neverblock.load import run as load
from neverblock.load.distribution import Distribution

SERVER_CORE, CLIENT_CORE = 0, 1
SIZE = 1024
KEYS = 1

#: How far apart two tools may be.
BARS = {"throughput": 0.05, "p50": 0.10, "p99": 0.10}

#: The share of a core from which on a tool measures itself.
FULL = 0.95

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass
class Figures:
    """Of one tool in one round: answers a second, and seconds."""

    throughput: float
    p50: float
    p99: float
    busy: float = 0.0
    """The share of a core that the tool used."""


@dataclass(frozen=True)
class Comparison:
    """A server, and two tools that load it."""

    name: str
    program: str
    serve: Callable[[], Iterator[str]]
    reference: Callable[[str, int, float], Figures]
    mix: str = "get"
    corrects: bool = False
    """Whether the tool corrects its percentiles for coordinated omission."""
    prepare: Callable[[str, int, float], object] = lambda url, connections, seconds: None
    """What the tool does once before it is measured."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def served(command: list[str], port: int) -> Iterator[None]:
    """A server pinned to its core, as soon as it accepts."""
    with subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), *command],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    if process.poll() is not None:
                        raise BenchError(f"{command[0]} does not start") from None
                    time.sleep(0.02)
            yield
        finally:
            process.kill()


@contextmanager
def redis_server() -> Iterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        with served(["redis-server", *options], port):
            yield f"redis://127.0.0.1:{port}"


@contextmanager
def value_server() -> Iterator[str]:
    with serving("bench.values:handle") as address:
        yield f"redis://{address}"


@contextmanager
def page_server() -> Iterator[str]:
    with serving("bench.page:handle") as address:
        yield f"http://{address}/"


@contextmanager
def serving(handler: str) -> Iterator[str]:
    port = free_port()
    address = f"127.0.0.1:{port}"
    serve = [sys.executable, "-m", "neverblock", "serve", "--stall-threshold", "0"]
    with served([*serve, handler, "--bind", f"tcp://{address}"], port):
        yield address


def tool(*command: str, timeout: float) -> tuple[str, float]:
    """What a tool says, and the share of its core that it used."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    output = run(["taskset", "-c", str(CLIENT_CORE), *command], timeout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return output, cpu / (time.monotonic() - began)


def wrk(url: str, connections: int, seconds: float) -> Figures:
    """wrk, one thread."""
    options = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency", url]
    output, busy = tool("wrk", *options, timeout=seconds + 60)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    found = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+(?:us|ms|s))$", output, re.MULTILINE))
    if rate is None or len(found) < 2:
        raise BenchError(f"wrk said something else: {output}")
    return Figures(float(rate[1]), span(found["50"]), span(found["99"]), busy)


def span(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\D+)", text).groups()
    return float(number) * UNITS[unit]


def redis_benchmark(command: str) -> Callable[[str, int, float], Figures]:
    def measure(url: str, connections: int, seconds: float) -> Figures:
        """redis-benchmark, one thread: it counts requests, so a short run tells how many."""
        port = url.rpartition(":")[2]

        def ask(requests: int) -> tuple[dict[str, str], float]:
            options = ["-p", port, "-c", str(connections), "-n", str(requests), "-d", str(SIZE)]
            options += ["-t", command, "--csv"]
            output, busy = tool("redis-benchmark", *options, timeout=seconds * 10 + 60)
            return next(iter(csv.DictReader(output.splitlines()))), busy

        row, _ = ask(20_000)
        row, busy = ask(int(float(row["rps"]) * seconds))
        p50, p99 = (float(row[f"{name}_latency_ms"]) / 1e3 for name in ("p50", "p99"))
        return Figures(float(row["rps"]), p50, p99, busy)

    return measure


def ours(url: str, connections: int, seconds: float, mix: str, corrects: bool = False) -> Figures:
    plan = Plan(
        target=url,
        connections=connections,
        duration=seconds,
        size=SIZE,
        mix=mix,
        keys=KEYS,
        cores=(CLIENT_CORE,),
    )
    result = load(plan)
    if result.failures:
        raise BenchError(f"errors: {result.errors}")
    latency = result.latency
    if corrects:
        latency = corrected(latency, connections / result.throughput)
    p50, p99 = latency.percentiles([50, 99])
    return Figures(result.throughput, p50 or 0.0, p99 or 0.0, result.busy)


def corrected(latency: Distribution, interval: float) -> Distribution:
    """As wrk does it: a connection asks once in so many seconds."""

    def pairs() -> Iterator[tuple[int, int]]:
        for value, count in latency.pairs():
            yield value, count
            missing = value - step
            while missing > step:
                yield missing, count
                missing -= step

    step = max(round(interval * 1e9), 1)
    return Distribution.of(pairs())


COMPARISONS = [
    Comparison("GET of a page", "wrk", page_server, wrk, corrects=True),
    *(
        Comparison(
            f"{name} {mix}",
            "redis-benchmark",
            serve,
            redis_benchmark(mix),
            mix,
            prepare=redis_benchmark("set"),
        )
        for name, serve in (("redis-server", redis_server), ("values.py", value_server))
        for mix in ("set", "get")
    ),
]


def compare(each: Comparison, connections: int, rounds: int, seconds: float) -> bool:
    """Print how far apart the tools are; whether that is near enough."""
    pairs: list[tuple[Figures, Figures]] = []
    with each.serve() as url:
        # The server has warmed up, and each tool has set the keys that it gets: they differ.
        ours(url, connections, 1.0, "set")
        each.prepare(url, connections, 1.0)
        for number in range(rounds):
            if number % 2:
                mine = ours(url, connections, seconds, each.mix, each.corrects)
                other = each.reference(url, connections, seconds)
            else:
                other = each.reference(url, connections, seconds)
                mine = ours(url, connections, seconds, each.mix, each.corrects)
            pairs.append((mine, other))
    print(f"{each.name}, {connections} connections: neverblock load / {each.program}")
    full = median(other.busy for _, other in pairs) >= FULL
    near = True
    for name, bar in BARS.items():
        ratios = [getattr(mine, name) / getattr(other, name) for mine, other in pairs]
        mine, other = (median(getattr(pair[i], name) for pair in pairs) for i in (0, 1))
        good = abs(median(ratios) - 1) <= bar
        verdict = f"{'within' if good else 'NOT within'} {bar:.0%}"
        if full:
            good, verdict = True, f"not judged: {each.program} measured itself"
        near = near and good
        shown = (
            f"{mine:,.0f} / {other:,.0f} per s"
            if name == "throughput"
            else (f"{mine * 1e6:,.0f} / {other * 1e6:,.0f} µs")
        )
        print(
            f"  {name:10} {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})  {shown}"
            f"  {verdict}"
        )
    mine, other = (median(pair[i].busy for pair in pairs) for i in (0, 1))
    print(f"  the tools used {mine:.0%} / {other:.0%} of their core", flush=True)
    return near


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=50)
    arguments = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        print("needs two cores: one for the server, one for its client", file=sys.stderr)
        return 2
    print(f"load of the machine at the start: {os.getloadavg()[0]:.2f}")
    near = True
    for each in COMPARISONS:
        if shutil.which(each.program) is None:
            print(f"{each.name}: {each.program} is not on PATH (make system-packages)")
            continue
        near &= compare(each, arguments.connections, arguments.rounds, arguments.seconds)
    return 0 if near else 1


if __name__ == "__main__":
    sys.exit(main())
