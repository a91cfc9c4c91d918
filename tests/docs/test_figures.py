"""Figures about the models are rows of the report that is kept with the documentation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs" / "report"

#: In a process of its own: what draws the charts keeps descriptors.
RENDER = """
import sys
from pathlib import Path
from neverblock.lab.report import render
from neverblock.lab.results import load
sys.stdout.write(render(load(Path("docs/report/results.json"))))
"""


def output(*arguments: str) -> str:
    pytest.importorskip("altair")
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_figure_is_the_reports() -> None:
    assert output("scripts/figures.py", "--check") == ""


def test_the_report_says_what_the_data_beside_it_says() -> None:
    kept = (REPORT / "index.html").read_text()
    said = [
        line for line in output("-c", RENDER).splitlines() if "<h2" in line or "verdict" in line
    ]
    assert said
    assert [line for line in said if line not in kept] == []
