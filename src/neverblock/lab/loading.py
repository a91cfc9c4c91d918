"""A server under load: what it answered, and what each answer cost it.

- Everything is of the measured time alone; the load tells it by the clock that all processes share.
- System calls are counted by perf(1) in a short load of their own: to count them slows them down.
"""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from neverblock.errors import LabError
from neverblock.lab import clients
from neverblock.lab.experiment import Bench, Metric
from neverblock.lab.sampling import Sampler, between
from neverblock.lab.server import Server
from neverblock.lab.settings import PROTOCOLS

#: What a server uses more and more of.
GROWING: Final = ("cpu", "user", "system", "voluntary", "involuntary")
PERCENTILES: Final = ("p50", "p99", "p99.9")
#: Share of the exact processor time that clock ticks must account for, or they tell too little.
TICKED: Final = 0.8
#: Seconds of the load in which system calls are counted.
COUNTED: Final = 0.4
#: Tasks that perf is asked to follow at most.
FOLLOWED: Final = 200


def url(server: Server, protocol: str) -> str:
    """The server as ``neverblock load`` knows it."""
    path = "/" if protocol == "http" else ""
    return f"{PROTOCOLS[protocol][0]}://127.0.0.1:{server.port}{path}"


def load(
    server: Server, bench: Bench, connections: int, sampler: Sampler, **options: Any
) -> Mapping[str, Any]:
    """Load as the settings have it, with readings all along. Raises LabError for no answers."""
    settings = bench.settings
    found = clients.load(
        url(server, settings.protocol),
        cores=bench.client_cores,
        connections=connections,
        meanwhile=sampler.take,
        **{
            "duration": settings.duration,
            "warmup": settings.warmup,
            "size": settings.size,
            **options,
        },
    )
    sampler.finish()
    if not found["throughput"]:
        errors = ", ".join(f"{count} × {kind}" for kind, count in found["errors"].items())
        raise LabError(f"no request was answered: {errors or 'none was sent'}")
    return found


def window(found: Mapping[str, Any]) -> tuple[float, float]:
    """When the measured time began and ended (monotonic clock)."""
    return found["began"], found["began"] + found["seconds"]


def answered(found: Mapping[str, Any]) -> Iterator[Metric]:
    """What the clients saw."""
    yield Metric("throughput", "1/s", found["throughput"])
    for name in PERCENTILES:
        if found["latency"][name] is not None:
            yield Metric(f"latency {name}", "s", found["latency"][name])
    yield Metric("errors", "1", sum(found["errors"].values()))
    yield Metric("client busy", "1", found["client"]["busy"])


def used(found: Mapping[str, Any], sampler: Sampler) -> Iterator[Metric]:
    """What it cost the server."""
    begin, end = window(found)
    requests = found["throughput"] * found["seconds"]
    grown = {name: sampler.used(name, begin, end) for name in GROWING}
    cpu, user, system = (grown[name] or 0.0 for name in ("cpu", "user", "system"))
    if cpu:
        yield Metric("cpu", "s/request", cpu / requests)
    if user + system >= TICKED * cpu > 0:
        yield Metric("cpu user", "s/request", cpu * user / (user + system) / requests)
        yield Metric("cpu system", "s/request", cpu * system / (user + system) / requests)
    for name in ("voluntary", "involuntary"):
        switches = grown[name]
        if switches is not None:
            yield Metric(f"{name} switches", "1/request", switches / requests)
    yield Metric("processes", "1", sampler.most("processes"))
    yield Metric("threads", "1", sampler.most("threads"))
    waits = sampler.counted("waits", begin, end)
    if waits:
        yield Metric("wake-ups", "1/request", waits / requests)
        for name, what in (
            ("descriptors_handed_in", "descriptors handed in"),
            ("descriptors_looked_at", "descriptors looked at"),
        ):
            counted = sampler.counted(name, begin, end)
            if counted is not None:
                yield Metric(what, "1/wake-up", counted / waits)


def system_calls(server: Server, bench: Bench, connections: int, tasks: int) -> Iterator[Metric]:
    """Those of the server, which will have so many tasks; nothing where perf may not count them."""
    pids = server.tree.pids()
    if shutil.which("perf") is None or tasks > FOLLOWED:
        return
    perf = subprocess.Popen(
        [
            "perf",
            "stat",
            "-x",
            ",",
            "-I",
            "20",
            "-e",
            "raw_syscalls:sys_enter",
            "-p",
            ",".join(map(str, pids)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        found = load(
            server,
            bench,
            connections,
            Sampler(server, COUNTED),
            duration=COUNTED,
            warmup=0.1,
            timeout=2.0,
        )
    finally:
        ended = time.monotonic()
        with suppress(ProcessLookupError):
            perf.send_signal(signal.SIGINT)
        try:
            _, told = perf.communicate(timeout=10.0)
        except subprocess.TimeoutExpired:
            perf.kill()
            _, told = perf.communicate()
    times, counts = [0.0], [0.0]
    for line in told.splitlines():
        at, count, *_ = [*line.split(","), "", ""]
        with suppress(ValueError):  # Words.
            times.append(float(at))
            counts.append(counts[-1] + (float(count) if count[:1].isdigit() else 0.0))
    # Its clock began with it, and its last line is of when it was told to end.
    times = [ended - times[-1] + each for each in times]
    begin, end = window(found)
    requests = found["throughput"] * found["seconds"]
    calls = between(times, counts, end) - between(times, counts, begin)
    if calls > 0:
        yield Metric("system calls", "1/request", calls / requests)
