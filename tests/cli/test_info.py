"""``neverblock info``, ``--version``, ``--help``: what a user or a bug report reads first."""

import json
import platform
import resource
import subprocess
import sys

import pytest

import neverblock as package
from neverblock import multiplexers
from tests.servers.serving import PATIENCE, neverblock


def test_info_for_programs_holds_what_a_bug_report_needs() -> None:
    shown = neverblock("info", "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    facts = json.loads(shown.stdout)
    assert facts["neverblock"] == package.__version__
    assert facts["python"] == f"CPython {platform.python_version()}"
    assert platform.release() in facts["system"]
    assert facts["backends"] == multiplexers.available()
    assert (facts["backend"], facts["backend_reason"]) == multiplexers.default()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert (facts["descriptors_soft"], facts["descriptors_hard"]) == (soft, hard)


def test_info_for_people_says_the_same() -> None:
    shown = neverblock("info").stdout
    for backend, reason in multiplexers.available().items():
        text = f"not available: {reason}" if reason else "available"
        assert f"backend {backend}".ljust(23) + text in shown.splitlines()
    assert f"neverblock             {package.__version__}" in shown.splitlines()


def test_info_shows_limits_as_they_are() -> None:
    shown = subprocess.run(
        ["sh", "-c", f"ulimit -Sn 321 && exec {sys.executable} -m neverblock info"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert "descriptors_soft       321" in shown.stdout.splitlines()


def test_info_says_what_the_environment_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVERBLOCK_BACKEND", "poll")
    facts = json.loads(neverblock("info", "--json").stdout)
    assert facts["backend_environment"] == "poll"
    monkeypatch.setenv("NEVERBLOCK_BACKEND", "kqueu")
    assert neverblock("info").returncode == 0  # It must work where nothing else does.


def test_a_wrong_backend_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVERBLOCK_BACKEND", "kqueu")
    for command in (("serve", "examples/echo.py:handle"), ("run", "examples/echo.py")):
        refused = neverblock(*command)
        assert refused.returncode == 2
        assert 'backend "kqueu": unknown; use one of ' in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_the_version_is_the_package_s() -> None:
    assert neverblock("--version").stdout == f"neverblock {package.__version__}\n"


@pytest.mark.parametrize("command", ["run", "serve", "info"])
def test_every_command_teaches_by_its_help(command: str) -> None:
    shown = neverblock(command, "--help")
    assert shown.returncode == 0
    assert f"Examples:\n    neverblock {command}" in shown.stdout
    assert f"  {command} " in neverblock().stdout


LOADED = """
import sys
from neverblock.cli import main
main(["serve", "--help"])
print(*sys.modules, file=sys.stderr)
"""


def test_a_command_loads_no_other() -> None:
    """A server is not to wait for what measures servers."""
    shown = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    loaded = set(shown.stderr.split())
    assert "neverblock.servers" in loaded
    assert not loaded & {"neverblock.lab", "neverblock.load", "multiprocessing"}


def test_an_unknown_command_is_refused() -> None:
    refused = neverblock("sreve")
    assert refused.returncode == 2
    assert refused.stderr.startswith("neverblock: No such command 'sreve'.")
    assert refused.stderr.count("\n") == 1
