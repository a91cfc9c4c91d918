"""What is measured of a model, each on a server of its own, with the native clients."""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.errors import BenchError
from bench.memory import SPARE_DESCRIPTORS, raise_descriptor_limit
from bench.models.servers import BLOCKING, ECHO, Model, Tree, serving
from bench.processes import environment, run
from bench.rows import Sample, Settings

#: Clients of the echo measurements, one message in flight each.
CROWDS = (1, 10, 100, 1_000)
#: Clients of the server that blocks before each answer.
BLOCKED = 10
#: Idle connections of the memory measurement, and in whose presence one more is served.
IDLE = 1_000
#: Served one after another, for the time until a client is served.
PROBES = 200
#: Connections at once in a churn.
PARALLEL = 64
SIZE = 1024
FIRST = 8
REPLY_TIMEOUT = 60.0
MIB = 1024 * 1024


@dataclass(frozen=True)
class Measure:
    """One measurement, by name; `run` gives figures, the first of them is its value."""

    name: str
    run: Callable[[Model, Settings], Sample]


def echo(clients: int, handler: str = ECHO) -> Callable[[Model, Settings], Sample]:
    """A closed loop: each client sends 1 KiB, waits for all of it, sends again."""

    def measure(model: Model, settings: Settings) -> Sample:
        raise_descriptor_limit(clients + SPARE_DESCRIPTORS)
        with serving(model, settings.server_core, handler=handler) as tree:
            arguments = [
                *("--connect", tree.address),
                *("--connections", str(clients)),
                *("--size", str(SIZE)),
                *("--warmup", "0.3"),
                *("--seconds", "0.4" if settings.quick else "1"),
                *("--core", str(settings.client_core)),
                *("--server-pid", str(tree.pid)),
                *("--stepwise", "1"),
            ]
            with client("load_echo", arguments, settings.programs) as (process, say):
                expect(process, "ready\n")
                tree.wait_rest()
                before = tree.counts()
                say("go\n")
                counted = json.loads(expect(process, "{"))
                tree.wait_rest()
                after = tree.counts()
        echoes = max(counted["echoes"], 1)
        wall = counted["wall_ns"]
        cpu = after.cpu_ns - before.cpu_ns
        details = {
            "echoes_per_second": counted["echoes"] / wall * 1e9,
            "p50_us": counted["p50_ns"] / 1000,
            "p99_us": counted["p99_ns"] / 1000,
            "max_us": counted["max_ns"] / 1000,
            "answered": counted["answered"],
            "cpu_us": cpu / 1000 / echoes,
            "server_busy": cpu / wall,
            "client_busy": counted["client_cpu_ns"] / wall,
            "client_waited": counted["client_wait_ns"] / wall,
            "voluntary_switches": (after.voluntary - before.voluntary) / echoes,
            "involuntary_switches": (after.involuntary - before.involuntary) / echoes,
            "processes": after.processes,
            "threads": after.threads,
        }
        notes = ("cores shared with others",) if details["client_waited"] > 0.05 else ()
        return Sample(details["echoes_per_second"], details, notes)

    return measure


def idle(model: Model, settings: Settings) -> Sample:
    """Memory of idle connections, each of which got one answer, and the time to serve one more."""
    held = min(IDLE, (model.at_once or IDLE + 1) - 1)
    raise_descriptor_limit(held + SPARE_DESCRIPTORS)
    with serving(model, settings.server_core) as tree:
        churn_on(tree, settings, FIRST, 1)  # What the first ones alone cost is not theirs.
        tree.wait_alone()
        tree.wait_rest()
        base = tree.pss_bytes()
        tables = tree.page_table_bytes()
        alone = churn_on(tree, settings, PROBES, 1)
        details = {
            "held": held,
            "base_mib": base / MIB,
            "first_answer_alone_us": alone["p50_ns"] / 1000,
            "first_answer_alone_p99_us": alone["p99_ns"] / 1000,
        }
        if not held:
            return Sample(details["base_mib"], details)
        with holding(tree, settings, held):
            tree.wait_rest()
            counts = tree.counts()
            grown = tree.pss_bytes() - base
            mapped = tree.page_table_bytes() - tables
            crowded = churn_on(tree, settings, PROBES, 1)
            details |= {
                "kib_each": grown / 1024 / held,
                "page_tables_kib_each": mapped / 1024 / held,
                "processes": counts.processes,
                "threads": counts.threads,
                "first_answer_us": crowded["p50_ns"] / 1000,
                "first_answer_p99_us": crowded["p99_ns"] / 1000,
            }
    return Sample(details["base_mib"], details)


def churn(model: Model, settings: Settings) -> Sample:
    """Connect, one echo, close, over and over, 64 at once: what a short connection costs."""
    cycles = model.churn // 4 if settings.quick else model.churn
    with serving(model, settings.server_core) as tree:
        churn_on(tree, settings, PARALLEL, PARALLEL)
        tree.wait_alone()
        before = tree.cpu_ns_of_all()
        counted = churn_on(tree, settings, cycles, PARALLEL)
        tree.wait_alone()
        cpu = tree.cpu_ns_of_all() - before
    details = {
        "connections_per_second": cycles / counted["wall_ns"] * 1e9,
        "p50_us": counted["p50_ns"] / 1000,
        "p99_us": counted["p99_ns"] / 1000,
        "cpu_us": cpu / 1000 / cycles,
    }
    return Sample(details["connections_per_second"], details)


def churn_on(tree: Tree, settings: Settings, cycles: int, parallel: int) -> dict[str, int]:
    command = [
        str(Path(settings.programs, "load_churn")),
        *("--connect", tree.address),
        *("--cycles", str(cycles)),
        *("--parallel", str(parallel)),
        *("--size", str(SIZE)),
        *("--core", str(settings.client_core)),
        *("--reports", "1"),
        *("--latencies", "1"),
    ]
    counted: dict[str, int] = json.loads(run(command, REPLY_TIMEOUT).splitlines()[-1])
    return counted


@contextmanager
def holding(
    tree: Tree, settings: Settings, connections: int, timeout: float = REPLY_TIMEOUT
) -> Iterator[None]:
    """Connections that got one echo each and are held, by a process of its own, until the end."""
    arguments = [
        *("--connect", tree.address),
        *("--connections", str(connections)),
        *("--echo", "1"),
    ]
    with client("load_hold", arguments, settings.programs) as (process, _):
        expect(process, f"held {connections}\n", timeout)
        yield


@contextmanager
def client(
    program: str, arguments: list[str], programs: Path
) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], None]]]:
    process = subprocess.Popen(
        [str(Path(programs, program)), *arguments],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def say(text: str) -> None:
        pipe(process.stdin).write(text)
        pipe(process.stdin).flush()

    try:
        yield process, say
    finally:
        process.kill()
        process.communicate()


def expect(process: subprocess.Popen[str], beginning: str, timeout: float = REPLY_TIMEOUT) -> str:
    """The next line of the client, which begins so; BenchError with what it says instead."""
    begun = time.monotonic()
    ready, _, _ = select.select([pipe(process.stdout)], [], [], timeout)
    if not ready:
        raise BenchError(f"some were not answered within {time.monotonic() - begun:.0f} s")
    line = pipe(process.stdout).readline()
    if not line.startswith(beginning):
        raise BenchError(pipe(process.stderr).read().strip() or "the client ended")
    return line


def pipe(file: IO[str] | None) -> IO[str]:
    assert file is not None
    return file


MEASURES = [
    Measure("idle", idle),
    *(Measure(f"echo {clients}", echo(clients)) for clients in CROWDS),
    Measure("blocking", echo(BLOCKED, BLOCKING)),
    Measure("churn", churn),
]
