"""From samples to figures: medians, spreads, ratios round by round, verdicts on the bars."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median, quantiles

from bench.loops import OURS
from bench.rows import Row, Sample


@dataclass
class Cell:
    """All that one loop gave for one row: a sample a round, `None` where there was none."""

    samples: list[Sample | None] = field(default_factory=list)
    unsupported: str = ""
    errors: list[str] = field(default_factory=list)

    @property
    def values(self) -> list[float]:
        return [sample.value for sample in self.samples if sample]

    @property
    def median(self) -> float | None:
        return median(self.values) if self.values else None

    @property
    def spread(self) -> float:
        """Half of the interquartile range, as a share of the median."""
        if len(self.values) < 2:
            return 0.0
        low, _, high = quantiles(self.values, n=4, method="inclusive")
        return (high - low) / 2 / median(self.values)

    def detail(self, name: str) -> float | None:
        """The median of a detail of the samples."""
        values = [s.details[name] for s in self.samples if s and name in s.details]
        return median(values) if values else None

    @property
    def notes(self) -> list[str]:
        """Doubts that fell on at least half of the samples."""
        counted = Counter(note for sample in self.samples if sample for note in sample.notes)
        return [note for note, count in counted.items() if count * 2 >= len(self.values)]


Cells = dict[str, Cell]


@dataclass(frozen=True)
class Ratio:
    """A loop against the row's best reference: the median of each round's own ratio."""

    reference: str
    median: float
    lowest: float
    highest: float


def best_reference(row: Row, cells: Cells) -> str | None:
    """The reference with the best median, if any has one."""
    medians = {
        name: cells[name].median
        for name in row.references
        if name in cells and cells[name].median is not None
    }
    if not medians:
        return None
    choose = max if row.more_is_better else min
    return choose(medians, key=lambda name: medians[name] or 0.0)


def ratio(row: Row, cells: Cells, loop: str) -> Ratio | None:
    """A loop's value over the best reference's, in rounds that have both.

    Neighbouring measurements share the machine's mood, so a ratio is taken within a round.
    """
    reference = best_reference(row, cells)
    if reference is None or loop not in cells:
        return None
    pairs = zip(cells[loop].samples, cells[reference].samples, strict=False)
    ratios = [ours.value / theirs.value for ours, theirs in pairs if ours and theirs]
    if not ratios:
        return None
    return Ratio(reference, median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True)
class Verdict:
    """Whether our loop reaches a row's bar; `reached` is what is held against it."""

    passed: bool
    aim_reached: bool
    reached: float


def verdict(row: Row, cells: Cells) -> Verdict | None:
    """`None` where the row has no bar, or our loop or the reference no figure."""
    ours = next((name for name in cells if name.partition(":")[0] == OURS), None)
    if row.bar is None or ours is None:
        return None
    if row.bar.of == "value":
        reached = cells[ours].median
    else:
        found = ratio(row, cells, ours)
        reached = found.median if found else None
    if reached is None:
        return None

    def within(limit: float) -> bool:
        return reached >= limit if row.more_is_better else reached <= limit

    aim = row.bar.aim
    return Verdict(within(row.bar.limit), aim is None or within(aim), reached)
