"""The report of the samples, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from neverblock.lab.report import write
from tests.lab.report.samples import full


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(full(), tmp_path_factory.mktemp("report"), full())


@pytest.fixture(scope="session")
def text(path: Path) -> str:
    return path.read_text()
