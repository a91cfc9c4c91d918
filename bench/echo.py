"""The echo rows: what one echo costs the server's process, against the bare C server.

The server is pinned to one core, the C client to another. The value is CPU time of the whole server
process (user and system, microseconds) per echo, which holds whichever side is the bottleneck; the
throughput beside it is the loop's own only while the server's core is full.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.loops import C_SERVER
from bench.processes import Server, run, serving
from bench.rows import Bar, Row, Sample, Settings

FULL = 0.95
DISTURBED = 0.05


def measurement(
    kind: str, *, connections: int, size: int, scheme: str = "tcp"
) -> Callable[[str, Settings], Sample]:
    def measure(loop: str, settings: Settings) -> Sample:
        with tempfile.TemporaryDirectory(prefix="neverblock-bench-") as directory:
            bind = "tcp:0" if scheme == "tcp" else f"unix:{directory}/socket"
            with serving(loop, kind, settings.programs, bind, settings.server_core) as server:
                if settings.quick:
                    return loaded(server, settings, 0.2, 0.5, connections, size)
                return loaded(server, settings, 0.5, 1.5, connections, size)

    return measure


def loaded(
    server: Server, settings: Settings, warmup: float, seconds: float, connections: int, size: int
) -> Sample:
    """What an echo costs a server that runs, loaded for so many seconds."""
    command = [
        str(Path(settings.programs, "load_echo")),
        *("--connect", server.address),
        *("--connections", str(connections)),
        *("--size", str(size)),
        *("--warmup", str(warmup)),
        *("--seconds", str(seconds)),
        *("--core", str(settings.client_core)),
        *("--server-pid", str(server.pid)),
    ]
    return sample(json.loads(run(command, timeout=60)))


def sample(counts: dict[str, int]) -> Sample:
    """The row's figures from the client's counts; see `native/load_echo.c`."""
    echoes = max(counts["echoes"], 1)
    wall = counts["wall_ns"]
    ticks = counts["server_user_ticks"] + counts["server_system_ticks"]
    cpu_us = counts["server_cpu_ns"] / 1000 / echoes
    user_us = cpu_us * counts["server_user_ticks"] / max(ticks, 1)
    details = {
        "user_us": user_us,
        "system_us": cpu_us - user_us,
        "client_us": counts["client_cpu_ns"] / 1000 / echoes,
        "echoes_per_second": counts["echoes"] / wall * 1e9,
        "server_busy": counts["server_cpu_ns"] / wall,
        "server_waited": counts["server_wait_ns"] / wall,
        "client_busy": counts["client_cpu_ns"] / wall,
        "client_waited": counts["client_wait_ns"] / wall,
    }
    notes = []
    if max(details["server_waited"], details["client_waited"]) > DISTURBED:
        notes.append("cores shared with others")
    elif details["server_busy"] < FULL:
        notes.append("client was the bottleneck")
    return Sample(cpu_us, details, tuple(notes))


def row(name: str, kind: str, bar: Bar | None = None, **load: object) -> Row:
    return Row(
        name=name,
        group="echo",
        unit="µs",
        measure=measurement(kind, **load),
        more_is_better=False,
        references=(C_SERVER,),
        bar=bar,
        with_c=True,
        two_cores=True,
    )


BAR = Bar("ratio", 1.10)
KIB = 1024

ROWS = [
    row("echo protocol 1 KiB, 64", "protocol", BAR, connections=64, size=KIB),
    row("echo protocol 1 KiB, 512", "protocol", BAR, connections=512, size=KIB),
    row("echo protocol 64 KiB, 64", "protocol", connections=64, size=64 * KIB),
    row("echo streams 1 KiB, 64", "streams", connections=64, size=KIB),
    row("echo sock_* 1 KiB, 64", "sock", connections=64, size=KIB),
    row("echo unix 1 KiB, 64", "protocol", connections=64, size=KIB, scheme="unix"),
]
