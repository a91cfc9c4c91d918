"""``neverblock info``: what a bug report needs."""

import json
import os
import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path

import click

from neverblock import multiplexers


@click.command(
    epilog="""\b
Examples:
  neverblock info
  neverblock info --json""",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def info(as_json: bool) -> None:
    """Show versions, backends and limits: what a bug report needs."""
    facts = collect()
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n".join(f"{name:<22} {text}" for name, text in lines(facts)))


def collect() -> dict[str, object]:
    """The facts, under the names that ``--json`` shows."""
    soft, hard = (
        None if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    default, reason = multiplexers.default()
    return {
        "neverblock": version("neverblock"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "backend": default,
        "backend_reason": reason,
        "backend_environment": os.environ.get("NEVERBLOCK_BACKEND"),
        # None: can be used; else why not.
        "backends": multiplexers.available(),
        "descriptors_soft": soft,
        "descriptors_hard": hard,
        "somaxconn": setting("net/core/somaxconn"),
        "local_ports": setting("net/ipv4/ip_local_port_range"),
    }


def setting(name: str) -> str | None:
    """A value of sysctl(8), where the system has it."""
    try:
        return " ".join(Path("/proc/sys", name).read_text().split())
    except OSError:
        return None


def lines(facts: dict[str, object]) -> list[tuple[str, str]]:
    """The same for people."""
    shown: list[tuple[str, str]] = []
    for name, value in facts.items():
        if name == "backends" and isinstance(value, dict):
            shown += [
                (f"backend {backend}", "not available: " + reason if reason else "available")
                for backend, reason in value.items()
            ]
        elif value is None:
            shown.append((name, "unlimited" if name.startswith("descriptors") else "not set"))
        else:
            shown.append((name, str(value) or "-"))
    return shown
