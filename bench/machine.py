"""The machine and the versions a result belongs to, and what makes its figures doubtful."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from bench.loops import version
from bench.processes import ROOT
from bench.programs import compiler_version

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def is_virtual() -> bool:
    return " hypervisor" in Path("/proc/cpuinfo").read_text()


def governor() -> str:
    """The frequency governor of the first core, or why it cannot be known."""
    if GOVERNOR.exists():
        return GOVERNOR.read_text().strip()
    return "not visible (virtual machine)" if is_virtual() else "not visible"


def revision() -> str:
    """The commit the suite ran at; "+" after it when the tree had changes."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def facts(loops: list[str]) -> dict[str, str]:
    """What a reader needs to judge or repeat the figures."""
    return {
        "cpu": cpu_model(),
        "cores": str(os.cpu_count()),
        "virtual machine": "yes" if is_virtual() else "no",
        "governor": governor(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
        "gil": "on" if getattr(sys, "_is_gil_enabled", lambda: True)() else "off",
        "libc": " ".join(platform.libc_ver()),
        "c compiler": compiler_version(),
        "revision": revision(),
        "load at start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        **{name: version(name) for name in loops if name not in ("asyncio", "C")},
    }


def doubts() -> list[str]:
    """What of the machine's state makes figures less certain."""
    found = []
    if is_virtual():
        found.append("virtual machine: neighbours and frequency are out of reach; trust ratios")
    elif governor() not in ("performance", "not visible"):
        found.append(f"frequency governor is {governor()}: set it to performance")
    if (load := os.getloadavg()[0]) > 0.5:
        found.append(f"the machine was busy at the start (load {load:.2f})")
    return found
