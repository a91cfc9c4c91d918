"""The run: rounds over all cases of all experiments, in an order of its own in each round.

- What stands side by side in the results is measured side by side in time: round 1 of everything,
  then round 2. The order is drawn from the seed, so a run can be repeated as it was.
- In a round what is measured of a case by itself comes first: it may find that the case cannot be
  had, and it is not tried together with others then.
- After each round, and when it is interrupted, what was measured is told to ``keep``.
- A case that cannot be measured is tried once. One that fails is told, and tried in the next round.
"""

import random
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from neverblock.lab import machine
from neverblock.lab.doubts import limited, varied
from neverblock.lab.experiment import (
    FAILURES,
    Bench,
    Case,
    Experiment,
    Found,
    Measure,
    Outcome,
    Unmeasurable,
    bench,
)
from neverblock.lab.results import (
    CaseKey,
    Description,
    Missing,
    Results,
    Row,
    Scalar,
    Verdict,
    key,
)
from neverblock.lab.settings import Settings


@dataclass(frozen=True, slots=True)
class Step:
    """A case in a round, or several that are measured together."""

    experiment: Experiment
    cases: tuple[Case, ...]
    together: bool
    round: int

    def seconds(self, settings: Settings) -> float:
        """How long it takes, about."""
        together = self.experiment.together
        each = together.seconds if self.together and together else self.experiment.seconds
        return sum(each(case, settings) for case in self.cases)


def plan(experiments: Sequence[Experiment], settings: Settings) -> list[Step]:
    """Every step in order."""
    steps: list[Step] = []
    for number in range(1, settings.rounds + 1):
        alone, together = [], []
        for each in experiments:
            cases = each.cases(settings)
            if each.rounds is None or number <= each.rounds:
                alone += [Step(each, (case,), False, number) for case in cases]
            if each.together is not None:
                groups: dict[Scalar, list[Case]] = {}
                for case in cases:
                    groups.setdefault(each.together.alike(case), []).append(case)
                together += [Step(each, tuple(group), True, number) for group in groups.values()]
        for kind in (alone, together):
            random.Random(f"{settings.seed} {number}").shuffle(kind)
            steps += kind
    return steps


@dataclass
class Run:
    """A comparison under way; what it finds is in ``results``."""

    experiments: Sequence[Experiment]
    settings: Settings
    command: str
    keep: Callable[[Results], None]
    """Called after each round with what there is, and at the end."""
    steps: list[Step] = field(init=False)
    failures: list[str] = field(default_factory=list)
    """What went wrong, a line each."""
    _rows: list[Row] = field(default_factory=list)
    _missing: dict[tuple[str, CaseKey], Missing] = field(default_factory=dict)
    _failed: dict[tuple[str, CaseKey], int] = field(default_factory=dict)
    """The round in which a case that can be had failed last."""

    def __post_init__(self) -> None:
        self.steps = plan(self.experiments, self.settings)
        self._started = datetime.now().astimezone().isoformat(timespec="seconds")
        self._facts = machine.facts()
        self._before = machine.moment()

    def measure(self) -> Iterator[Step]:
        """Measure everything; each step is yielded before it is measured.

        To stop early, let an interrupt go through it: what was measured is kept.
        """
        place = bench(self.settings)
        number = 1
        try:
            for step in self.steps:
                if step.round > number:
                    number = step.round
                    self.keep(self.results(complete=False))
                yield step
                self._measure(step, place)
        except BaseException:
            self.keep(self.results(complete=False))
            raise
        self.keep(self.results())

    def _measure(self, step: Step, place: Bench) -> None:
        cases = [case for case in step.cases if self._wanted(step, case)]
        together = step.experiment.together
        if not step.together or together is None:
            for case in cases:
                self._note(step, case, attempt(step.experiment.measure, case, place))
        else:
            for case, outcome in together.measure(cases, place):
                self._note(step, case, outcome)

    def _wanted(self, step: Step, case: Case) -> bool:
        """Whether it may be had, and has not failed in this round."""
        where = step.experiment.name, key(case)
        return where not in self._missing or 0 < self._failed.get(where, 0) < step.round

    def _note(self, step: Step, case: Case, outcome: Outcome) -> None:
        name = step.experiment.name
        if isinstance(outcome, Exception):
            reason = str(outcome)
            if not isinstance(outcome, Unmeasurable):
                reason = f"round {step.round} failed: {outcome}"
                self.failures.append(reason)
                self._failed[name, key(case)] = step.round
            self._missing[name, key(case)] = Missing(experiment=name, case=case, reason=reason)
            return
        self._rows += [
            Row(
                experiment=name,
                case=case,
                round=step.round,
                metric=metric.name,
                unit=metric.unit,
                value=metric.value,
            )
            for metric in outcome
        ]

    def results(self, complete: bool = True) -> Results:
        """All that is known by now."""
        rows = tuple(self._rows)
        return Results(
            started=self._started,
            command=self.command,
            machine=self._facts,
            versions=machine.versions(self.settings.peers),
            settings=self.settings.record(),
            experiments=tuple(described(each, self.settings) for each in self.experiments),
            rows=rows,
            missing=tuple(self._missing.values()),
            verdicts=judged(self.experiments, rows),
            doubts=(*machine.doubts(self._before, machine.moment()), *varied(rows), *limited(rows)),
            complete=complete,
        )


def attempt(measure: Measure, case: Case, place: Bench) -> Outcome:
    """All that is measured of a case, or nothing."""
    try:
        return list(measure(case, place))
    except FAILURES as error:
        return error


def described(experiment: Experiment, settings: Settings) -> Description:
    return Description(
        name=experiment.name,
        title=experiment.title,
        question=experiment.question,
        method=experiment.method,
        command=shlex.join(
            [
                *("neverblock", "compare", *settings.options(experiment.uses_handler)),
                *("--experiment", experiment.name),
            ]
        ),
        charts=experiment.charts,
    )


def judged(experiments: Sequence[Experiment], rows: Sequence[Row]) -> tuple[Verdict, ...]:
    return tuple(
        verdict
        for experiment in experiments
        for verdict in experiment.verdicts(Found(experiment.name, rows))
    )


def judged_again(results: Results, experiments: Sequence[Experiment]) -> Results:
    """With what this version has to say of the same rows; of those it does not know, as it was."""
    verdicts: list[Verdict] = []
    for experiment in experiments:
        before = [each for each in results.verdicts if each.experiment == experiment.name]
        try:
            verdicts += judged([experiment], results.rows) or before
        except (ArithmeticError, LookupError, TypeError, ValueError):
            verdicts += before  # Another version had other cases.
    names = {each.name for each in experiments}
    verdicts += [each for each in results.verdicts if each.experiment not in names]
    return replace(results, verdicts=tuple(verdicts))
