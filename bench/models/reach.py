"""How far a model goes: more and more connections that stay, each answered once when it came.

It stops at the first failure, or before a step that the machine's memory has no room for.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError, Unsupported
from bench.memory import SPARE_DESCRIPTORS, raise_descriptor_limit
from bench.models.measures import MIB, churn_on, holding
from bench.models.servers import Model, Tree, field_kib, serving
from bench.rows import Settings

LADDER = (1_000, 2_000, 5_000, 10_000, 15_000)
PROBES = 50
#: Seconds in which a step's connections must all be answered.
PATIENCE = 90.0
#: The share of the memory that is available which one step may take.
SHARE = 0.6


@dataclass(frozen=True)
class Step:
    """So many connections held."""

    connections: int
    seconds: float
    """From the first new connection to the last one's answer."""
    pss_mib: float
    page_tables_mib: float
    machine_mib: float
    """How much less memory the machine has available than before; the client's part is in it."""
    processes: int
    threads: int
    first_answer_us: float
    """Until one client more is answered, median."""


@dataclass(frozen=True)
class Reach:
    """The steps that held, and why there is no further one."""

    steps: list[Step]
    end: str

    def record(self) -> dict[str, Any]:
        return asdict(self)


def climb(model: Model, settings: Settings) -> Reach:
    steps: list[Step] = []
    ladder = LADDER[:2] if settings.quick else LADDER
    try:
        raise_descriptor_limit(ladder[-1] + SPARE_DESCRIPTORS)
        more = ["--backlog", "4096"]
        if model.bounded:
            more += ["--max-connections", str(ladder[-1] + 1)]
        with serving(model, settings.server_core, *more) as tree, ExitStack() as held:
            free = available_mib()
            before = 0
            for wanted in ladder:
                if reason := no_room(steps, wanted):
                    return Reach(steps, f"{wanted:,} not tried: {reason}")
                begun = time.monotonic()
                try:
                    held.enter_context(holding(tree, settings, wanted - before, PATIENCE))
                    seconds = time.monotonic() - begun
                    steps.append(step(tree, settings, wanted, seconds, free))
                except BenchError as error:
                    return Reach(steps, f"at {wanted:,}: {error}")
                before = wanted
    except (BenchError, Unsupported) as error:
        return Reach(steps, str(error))
    return Reach(steps, "the last step")


def step(tree: Tree, settings: Settings, held: int, seconds: float, free: float) -> Step:
    tree.wait_rest()
    counts = tree.counts()
    served = max(counts.processes - 1 - tree.own, counts.threads - 1, descriptors(tree))
    if served < held:
        raise BenchError(f"{served:,} are served")
    return Step(
        connections=held,
        seconds=seconds,
        pss_mib=tree.pss_bytes() / MIB,
        page_tables_mib=tree.page_table_bytes() / MIB,
        machine_mib=free - available_mib(),
        processes=counts.processes,
        threads=counts.threads,
        first_answer_us=churn_on(tree, settings, PROBES, 1)["p50_ns"] / 1000,
    )


def descriptors(tree: Tree) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in tree.pids()[: 1 + tree.own])


def no_room(steps: list[Step], wanted: int) -> str:
    """Why the next step should not be tried; empty if it may."""
    if not steps:
        return ""
    last = steps[-1]
    needed = (wanted - last.connections) * last.machine_mib / last.connections
    limit = available_mib() * SHARE
    if needed <= limit:
        return ""
    return f"it needs {needed / 1024:.1f} GiB more, and {limit / 1024:.1f} GiB may be taken here"


def available_mib() -> float:
    return field_kib(str(Path("/proc/meminfo")), "MemAvailable:") / 1024
