"""Judges a test by what asyncio's own loop does and by the list of expected failures."""

import fnmatch
import platform
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from supervise import Result

LIST = Path(__file__).with_name("expected.toml")


@dataclass
class Expected:
    """An entry of the list: tests that fail on our loop and may."""

    test: str
    reason: str
    python: list[str] = field(default_factory=list)
    backend: list[str] = field(default_factory=list)
    matched: int = 0

    def here(self) -> bool:
        version = platform.python_version()
        return not self.python or any((version + ".").startswith(p + ".") for p in self.python)

    def covers(self, test: str, backend: str) -> bool:
        return (not self.backend or backend in self.backend) and fnmatch.fnmatch(test, self.test)


def read_expected(path: Path) -> list[Expected]:
    """The entries that speak of this Python. Raises ValueError for one without a reason."""
    entries = [Expected(**entry) for entry in tomllib.loads(path.read_text()).get("expected", [])]
    for entry in entries:
        if not entry.reason.strip():
            raise ValueError(f"{path.name}: {entry.test} has no reason; say why it may fail")
    return [entry for entry in entries if entry.here()]


@dataclass
class Verdict:
    """What a test on a backend comes to in the end."""

    kind: str  # one of KINDS
    why: str = ""
    result: Result = field(default_factory=lambda: Result("passed"))

    @property
    def bad(self) -> bool:
        return self.kind in ("failed", "surprise")


KINDS = {
    "passed": "pass",
    "flaky": "failed once, then passed when run again alone",
    "expected": "fail as expected.toml says",
    "skipped": "are skipped, as on asyncio's own loop",
    "stock": "fail on asyncio's own loop",
    "surprise": "pass, though expected.toml says they fail",
    "failed": "fail",
}


def judge(
    test: str,
    backend: str,
    first: Result,
    again: Result | None,
    stock: Result | None,
    expected: list[Expected],
) -> Verdict:
    """`again` is a second run alone, `stock` a run on asyncio's own loop; None: not run."""
    entry = next((entry for entry in expected if entry.covers(test, backend)), None)
    if entry is not None:
        entry.matched += 1
        if first.outcome == "failed":
            return Verdict("expected", entry.reason, first)
        return Verdict("surprise", f"{first.outcome}; expected to fail: {entry.reason}", first)
    if first.outcome == "passed":
        return Verdict("passed", "", first)
    if again is not None and again.outcome == "passed":
        return Verdict("flaky", first.reason, first)
    if stock is not None and stock.outcome == first.outcome:
        return Verdict("skipped" if first.outcome == "skipped" else "stock", first.reason, first)
    if first.outcome == "skipped" and stock is not None:
        return Verdict("failed", f"skipped ({first.reason}), but runs on asyncio's loop", first)
    return Verdict("failed", first.reason, first)
