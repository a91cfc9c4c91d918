"""The memory rows: what an idle connection costs the server's process, in KiB.

The value is the growth of the server's private memory (USS) over the connections held, garbage
collected before both readings; what the kernel keeps for a socket is not in it. A hundred
connections made and closed before the first reading take one-time costs out.
"""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError
from bench.processes import Server, environment, serving
from bench.rows import Bar, Row, Sample, Settings

HELD = 9_000
FIRST = 100
SPARE_DESCRIPTORS = 200
CLOSE_TIMEOUT = 5.0


def raise_descriptor_limit(wanted: int) -> None:
    """Raises the soft limit of open descriptors, which children inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BenchError(f"{wanted} descriptors needed, {hard} allowed; raise `ulimit -Hn`")
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def holding(server: Server, programs: Path, connections: int, echo: bool) -> Iterator[None]:
    """Connections held open by a process of their own; all closed afterwards."""
    before = server.descriptors()
    command = [
        str(Path(programs, "load_hold")),
        *("--connect", server.address),
        *("--connections", str(connections)),
        *("--echo", str(int(echo))),
    ]
    client = subprocess.Popen(
        command,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if client.stdout.readline() != f"held {connections}\n":
            raise BenchError(client.stderr.read().strip() or "the client ended")
        if not server.wait_descriptors(before + connections, timeout=30):
            raise BenchError(f"the server holds {server.descriptors() - before} of {connections}")
        server.wait_idle()
        yield
    finally:
        client.communicate()


def measurement(kind: str, *, echo: bool) -> Callable[[str, Settings], Sample]:
    def measure(loop: str, settings: Settings) -> Sample:
        held = HELD // 3 if settings.quick else HELD
        raise_descriptor_limit(held + SPARE_DESCRIPTORS)
        with serving(loop, kind, settings.programs) as server:
            descriptors = server.descriptors()
            with holding(server, settings.programs, FIRST, echo=True):
                pass
            server.wait_descriptors(descriptors, CLOSE_TIMEOUT)
            server.collect_garbage()
            before = server.private_bytes()
            with holding(server, settings.programs, held, echo):
                server.collect_garbage()
                grown = server.private_bytes() - before
            closed = server.wait_descriptors(descriptors, CLOSE_TIMEOUT)
            left = server.descriptors() - descriptors
            server.collect_garbage()
            kept = server.private_bytes() - before
        details = {"held": held, "base_kib": before / 1024, "kept_after_close_kib": kept / 1024}
        notes = () if closed else (f"{left} descriptors left open",)
        return Sample(grown / 1024 / held, details, notes)

    return measure


def row(name: str, kind: str, limit: float | None = None, *, echo: bool = False) -> Row:
    return Row(
        name=name,
        group="memory",
        unit="KiB",
        measure=measurement(kind, echo=echo),
        more_is_better=False,
        bar=Bar("value", limit) if limit else None,
        rounds=3,
    )


ROWS = [
    row("idle protocol connection", "protocol", 1.3),
    row("idle protocol connection after an echo", "protocol", 1.3, echo=True),
    row("idle stream connection", "streams", 5.0),
    row("idle stream connection after an echo", "streams", 5.0, echo=True),
]
