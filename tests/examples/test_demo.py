"""The demo, small: what it shows, what it does about limits, its exit codes."""

import os
import re
import subprocess
import sys

from tests.servers.serving import PATIENCE, ROOT, powerless


def demo(*options: str, wrapper: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*wrapper, sys.executable, "examples/demo.py", "--seconds", "0.05", *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120"},
        check=False,
    )


def rows(output: str) -> dict[str, list[str]]:
    """The lines of the table."""
    found = {}
    for line in output.splitlines():
        if line.startswith("│"):
            name, *cells = (cell.strip() for cell in line.strip("│").split("│"))
            found[name] = cells
    return found


def test_shows_what_one_thread_can_hold() -> None:
    shown = demo("--clients", "300")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert re.search(r"All of [\d,]+ replies were right\.", shown.stdout)
    table = rows(shown.stdout)
    assert table["idle connections held"] == ["0", "300"]
    if sys.platform == "linux":
        assert table["threads of the server"] == ["", "1, and 2 of the watch"]
        assert re.fullmatch(r"\d+\.\d\d KiB", table["memory per idle connection"][1])
    for name in ("commands/s, one after another", "latency p50", "latency p99"):
        assert all(re.match(r"[\d,]+", cell) for cell in table[name])


def test_select_shows_its_limit_and_goes_on() -> None:
    shown = demo("--backend", "select", "--clients", "1200")
    assert shown.returncode == 3, shown.stdout + shown.stderr
    text = " ".join(shown.stdout.split())
    held = int(rows(shown.stdout)["idle connections held"][1].replace(",", ""))
    assert 1000 < held < 1024
    assert f"The server kept {held:,} idle clients of 1,200" in text
    assert "select cannot watch descriptor 1024: it can watch 0 to 1023 only; use backend" in text
    assert "Those it has go on: every one of them was answered" in text


def test_a_low_descriptor_limit_is_told_with_the_cure() -> None:
    lowered = ("sh", "-c", 'ulimit -n 300; exec "$@"', "sh")
    shown = demo("--clients", "400", wrapper=(*lowered, *powerless("sys_resource")))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    text = " ".join(shown.stdout.split())
    assert "The descriptor limit of this process is 300, and 464 are needed" in text
    assert "ulimit -Hn 464" in text
    assert rows(shown.stdout)["idle connections held"] == ["0", "236"]


def test_a_soft_limit_is_raised_without_a_word() -> None:
    shown = demo("--clients", "400", wrapper=("sh", "-c", 'ulimit -Sn 300; exec "$@"', "sh"))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "limit" not in shown.stdout
    assert rows(shown.stdout)["idle connections held"] == ["0", "400"]


def test_a_server_that_does_not_start_is_told() -> None:
    shown = demo("--backend", "kqueu")
    assert shown.returncode == 1
    assert 'backend "kqueu": unknown; use one of' in shown.stderr
