"""The machine that results belong to, and what else it did meanwhile.

Sources: proc_cpuinfo(5), proc_stat(5), proc_meminfo(5), sched_getaffinity(2), getrlimit(2).
"""

import importlib.metadata
import os
import platform
import resource
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neverblock.lab.results import Scalar
from neverblock.lab.tree import TICKS, kibs

#: What others may take of the machine's processors before it is told, and before steal is.
OTHERS: Final = 0.05
STEAL: Final = 0.02


def facts() -> Mapping[str, Scalar]:
    """What a reader needs to judge or repeat the figures. Memory in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    info = Path("/proc/cpuinfo").read_text()
    return {
        "cpu": cpu_model(info),
        "cores": len(os.sched_getaffinity(0)),
        "virtual machine": " hypervisor" in info,
        "memory": 1024 * kibs("/proc/meminfo").get("MemTotal", 0),
        "kernel": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()),
        "descriptors": hard if hard != resource.RLIM_INFINITY else soft,
        "somaxconn": int(Path("/proc/sys/net/core/somaxconn").read_text()),
        "niceness": os.nice(0),
        "load average": round(os.getloadavg()[0], 2),
    }


def cpu_model(info: str) -> str:
    for line in info.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def versions(others: Iterable[str]) -> Mapping[str, str]:
    """Python, this package, and other loops where they are installed."""
    found = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "neverblock": importlib.metadata.version("neverblock"),
    }
    for name in others:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, slots=True)
class Moment:
    """What all processors together had done, and what of it was ours, in seconds."""

    at: float
    busy: float
    steal: float
    ours: float


def moment() -> Moment:
    """Ours is complete when no child runs: a child's time is known once it was waited for."""
    fields = [int(field) / TICKS for field in Path("/proc/stat").read_text().split()[1:9]]
    user, nice, system, _, _, irq, softirq, steal = fields
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Moment(
        at=time.monotonic(),
        busy=user + nice + system + irq + softirq,
        steal=steal,
        ours=sum(usage.ru_utime + usage.ru_stime for usage in own),
    )


def doubts(before: Moment, after: Moment) -> list[str]:
    """What of the machine's doings between two moments makes figures less certain."""
    whole = (after.at - before.at) * (os.cpu_count() or 1)
    found: list[str] = []
    if whole <= 0:
        return found
    others = (after.busy - before.busy - (after.ours - before.ours)) / whole
    steal = (after.steal - before.steal) / whole
    if others > OTHERS:
        found.append(
            f"other processes took {others:.0%} of the machine's processors during the run "
            f"(load average {os.getloadavg()[0]:.1f} at its end): trust ratios, or run it again "
            f"when the machine is quiet"
        )
    if steal > STEAL:
        found.append(
            f"the host kept {steal:.0%} of the processors from this virtual machine (steal): "
            f"figures vary with what its neighbours do"
        )
    if len(os.sched_getaffinity(0)) < 2:
        found.append("one core only: the server and its clients shared it")
    return found
