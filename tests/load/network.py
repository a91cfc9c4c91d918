"""Hosts for tests: network namespaces that a bridge joins, each with an address of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Host:
    """One of them."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    def start(self, *command: str, stdout: int | None = None) -> subprocess.Popen[str]:
        """A Python program there: arguments of the interpreter."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, sys.executable, *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE if stdout is not None else None,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


@contextmanager
def network(*names: str) -> Iterator[list[Host]]:
    """Hosts of these names that reach each other, and nothing else."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and ip(8): make system-packages")
    with ExitStack() as stack:
        middle = namespace(stack, "bridge")
        ip(middle, "link", "add", "bridge", "type", "bridge")
        ip(middle, "link", "set", "bridge", "up")
        hosts = []
        for index, name in enumerate(names, 1):
            host = Host(namespace(stack, name), f"10.77.0.{index}")
            ip(host.name, "link", "set", "lo", "up")
            ip(
                host.name, "link", "add", "eth0", "type", "veth",
                "peer", "name", f"port{index}", "netns", middle,
            )  # fmt: skip
            ip(host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
            ip(host.name, "link", "set", "eth0", "up")
            ip(middle, "link", "set", f"port{index}", "master", "bridge", "up")
            hosts.append(host)
        yield hosts


def namespace(stack: ExitStack, name: str) -> str:
    unique = f"neverblock-{os.getpid()}-{name}"
    made = subprocess.run(
        ["ip", "netns", "add", unique], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
    stack.callback(subprocess.run, ["ip", "netns", "delete", unique], check=True)
    return unique


def ip(name: str, *arguments: str) -> None:
    subprocess.run(["ip", "-n", name, *arguments], check=True)


FEW_PORTS = """
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("40000 40199")
"""


def leave_few_ports(host: Host) -> None:
    """To each of its addresses 200, to connect from."""
    fewer = host.start("-c", FEW_PORTS, stdout=subprocess.PIPE)
    _, refused = fewer.communicate(timeout=60)
    if fewer.returncode != 0:
        pytest.skip(f"ports cannot be limited here: {refused}")
