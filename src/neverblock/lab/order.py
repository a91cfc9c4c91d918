"""Two runs as wholes: whether the ways to serve have the same order, and the same level.

- Order is by throughput, pair by pair, under the same load. Ways are measured side by side, so how
  much faster one is than another is told round by round, and the median round counts: a round in
  which the machine was slow was slow for both.
- What all ways under a load have in common, the median of their changes, is the machine's, or of
  something that concerns all. What is left of a change is the way's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from neverblock.lab.results import CaseKey, Results, key

#: What of a case is the way to serve; the rest is its load.
WAY = ("model", "backend", "loop")
METRIC = "throughput"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two ways to serve, under the same load."""

    one: CaseKey
    other: CaseKey
    before: float
    """Throughput of the first, as a multiple of that of the second."""
    after: float

    @property
    def same(self) -> bool:
        """Whether the one that was faster still is."""
        return (self.before - 1) * (self.after - 1) >= 0

    @property
    def closeness(self) -> float:
        """How far apart they are in the run where they are closer: a share of the slower."""
        return min(max(ratio, 1 / ratio) - 1 for ratio in (self.before, self.after))


@dataclass(frozen=True, slots=True)
class Level:
    """The throughput of a way to serve in both runs."""

    case: CaseKey
    change: float
    """The median now, as a multiple of that before."""
    common: float
    """What all ways under this load have of it."""

    @property
    def own(self) -> float:
        return self.change / self.common


Rounds = dict[int, float]
Throughputs = dict[tuple[str, CaseKey], dict[CaseKey, Rounds]]


def throughputs(results: Results) -> Throughputs:
    """By experiment and load, by case, by round; what answered nothing is left out."""
    found: Throughputs = {}
    for row in results.rows:
        if row.metric == METRIC and row.value > 0:
            case = key(row.case)
            load = tuple(item for item in case if item[0] not in WAY)
            cases = found.setdefault((row.experiment, load), {})
            cases.setdefault(case, {})[row.round] = row.value
    return found


def both(before: Results, after: Results) -> Iterator[dict[CaseKey, tuple[Rounds, Rounds]]]:
    """For each load, the cases that both runs measured."""
    old, new = throughputs(before), throughputs(after)
    for load in old.keys() & new.keys():
        cases = old[load].keys() & new[load].keys()
        yield {case: (old[load][case], new[load][case]) for case in sorted(cases, key=str)}


def pairs(before: Results, after: Results) -> list[Pair]:
    """Every two ways under a load that both runs have rounds of in common."""
    made = []
    for cases in both(before, after):
        for one, other in combinations(cases, 2):
            old = ratio(cases[one][0], cases[other][0])
            new = ratio(cases[one][1], cases[other][1])
            if old is not None and new is not None:
                made.append(Pair(one, other, old, new))
    return made


def ratio(one: Rounds, other: Rounds) -> float | None:
    """That of the median round; None: there is no round that has both."""
    ratios = [one[number] / other[number] for number in one.keys() & other.keys()]
    return median(ratios) if ratios else None


def levels(before: Results, after: Results) -> list[Level]:
    """Every way that both runs measured."""
    made = []
    for cases in both(before, after):
        changes = {
            case: median(new.values()) / median(old.values()) for case, (old, new) in cases.items()
        }
        common = median(changes.values()) if changes else 1.0
        made += [Level(case, change, common) for case, change in changes.items()]
    return made
