"""What an experiment is: a question, its cases, how one is measured, and what the numbers say.

- ``measure`` is called once for each case and round. It yields metrics, and raises Unmeasurable
  for what cannot be had here (told with the results, once, and not tried again), LabError for what
  went wrong (told, and the command fails).
- What varies with the machine's moods is better measured side by side: see ``Together``.
- ``verdicts`` sees medians alone, and computes every word that depends on them.
- An experiment is one file in experiments/, which ends in ``EXPERIMENT = Experiment(…)``, and one
  name in experiments/__init__.py. experiments/scanning.py is the one to look at first.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from neverblock.errors import LabError
from neverblock.lab.results import Case, Chart, Fact, Row, Scalar, Summary, Verdict, summaries
from neverblock.lab.settings import Settings


class Unmeasurable(Exception):
    """A case cannot be measured on this machine; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that was measured."""

    name: str
    unit: str
    value: float


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a case is measured: what was asked for, and the cores."""

    settings: Settings
    server_cores: frozenset[int]
    client_cores: frozenset[int]

    @property
    def both_cores(self) -> frozenset[int]:
        """For a server that may use more than one, and its clients."""
        return self.server_cores | self.client_cores


class Found:
    """The medians of an experiment."""

    def __init__(self, experiment: str, rows: Iterable[Row]) -> None:
        self.experiment = experiment
        self._rows = [row for row in rows if row.experiment == experiment]
        self._summaries: dict[str, Mapping[Any, Summary]] = {}

    def all(self, metric: str, **where: Scalar) -> list[tuple[dict[str, Scalar], Summary]]:
        """Every case with these items that has the metric."""
        if metric not in self._summaries:
            self._summaries[metric] = summaries(self._rows, self.experiment, metric)
        return [
            (dict(case), summary)
            for case, summary in self._summaries[metric].items()
            if where.items() <= dict(case).items()
        ]

    def one(self, metric: str, **where: Scalar) -> Summary | None:
        """That of the only case with these items; None where there is none."""
        found = self.all(metric, **where)
        return found[0][1] if len(found) == 1 else None

    def fact(self, metric: str, **where: Scalar) -> Fact:
        """The same as a fact. Raises KeyError where there is none."""
        found = self.all(metric, **where)
        if len(found) != 1:
            raise KeyError(f"{len(found)} cases of {where} have {metric}")
        case, summary = found[0]
        return Fact(
            value=summary.median, unit=summary.unit, rows=({"case": case, "metric": metric},)
        )


Measure: TypeAlias = Callable[[Case, Bench], Iterator[Metric]]

#: What becomes of a case: all that was measured, or why nothing was.
Outcome: TypeAlias = list[Metric] | Exception
#: Why nothing was measured; what else is raised is a fault of ours.
FAILURES: Final = (Unmeasurable, LabError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """What is measured of several cases at once, side by side."""

    alike: Callable[[Case], Scalar]
    """Cases for which it is the same are measured together."""
    measure: Callable[[Sequence[Case], Bench], Iterator[tuple[Case, Outcome]]]
    seconds: Callable[[Case, Settings], float]
    """How long each of them takes in one round, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One question, settled by measurement."""

    name: str
    title: str
    question: str
    method: str
    charts: tuple[Chart, ...]
    cases: Callable[[Settings], Sequence[Case]]
    measure: Measure
    verdicts: Callable[[Found], Sequence[Verdict]]
    seconds: Callable[[Case, Settings], float]
    """How long a case takes in one round, about."""
    table: tuple[str, ...]
    """The metrics that the terminal shows, in order."""
    uses_handler: bool = False
    """Whether it measures the handler that was named, rather than one of its own."""
    together: Together | None = None
    """What is measured beside ``measure``."""
    rounds: int | None = None
    """The rounds in which ``measure`` is called, at most: what it finds varies little."""


def bench(settings: Settings) -> Bench:
    """The last core serves, the one before it has the clients: the first has most interrupts.

    With one core both share it.
    """
    cores = sorted(os.sched_getaffinity(0))
    client = cores[-2] if len(cores) > 1 else cores[-1]
    return Bench(settings, frozenset({cores[-1]}), frozenset({client}))


#: What does so much of what the best does is as good, for choosing.
CLOSE = 0.9


def leaders(ranked: Sequence[tuple[dict[str, Scalar], Summary]]) -> list[dict[str, Scalar]]:
    """The first of these and all that are as good: within a tenth of it, or of rounds among its."""
    best = ranked[0][1]

    def alike(each: Summary) -> bool:
        low, high = sorted((each.median, best.median))
        return low >= CLOSE * high or (each.low <= best.high and best.low <= each.high)

    return [case for case, summary in ranked if alike(summary)]


def outdone(
    ranked: Sequence[tuple[dict[str, Scalar], Summary]],
) -> tuple[dict[str, Scalar], Summary]:
    """The last of these that is not among the leaders; the last of all where all of them are.

    One whose rounds lie far apart may be as good as the first, though its median is the last.
    """
    best = leaders(ranked)
    return next((each for each in reversed(ranked) if each[0] not in best), ranked[-1])


def derived(fact: Fact, value: float, unit: str, *others: Fact) -> Fact:
    """A number computed from several facts, with the rows of all of them."""
    rows = [row for each in (fact, *others) for row in each.rows]
    return replace(fact, value=value, unit=unit, rows=tuple(rows))


def refuse(reason: str | None) -> None:
    """Raises Unmeasurable where there is a reason."""
    if reason is not None:
        raise Unmeasurable(reason)


__all__ = [
    "FAILURES",
    "Bench",
    "Case",
    "Chart",
    "Experiment",
    "Fact",
    "Found",
    "LabError",
    "Metric",
    "Outcome",
    "Settings",
    "Together",
    "Unmeasurable",
    "Verdict",
    "bench",
    "derived",
    "leaders",
    "outdone",
    "refuse",
]
