"""What these tests stall is no summary's at the end of the run."""

from __future__ import annotations

import pytest

from neverblock.watch import watcher
from neverblock.watch.ledger import Ledger


@pytest.fixture(autouse=True)
def nothing_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "ledger", Ledger())
