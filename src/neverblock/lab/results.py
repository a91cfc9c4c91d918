"""What a comparison found, as one JSON document: results.json.

- One row is one measurement: a metric of a case in a round. Medians are never stored.
- What could not be measured is in ``missing``, with the reason; it is not left out.
- Rows are in order of time, so a document that ends early is a document.
- Reading checks every field: what is wrong is told with its place in the file.

docs/reference/results.md describes each field.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias

from neverblock.errors import ResultsError
from neverblock.lab import reading

SCHEMA: Final = 1

Scalar: TypeAlias = str | int | float | bool | None
Case: TypeAlias = Mapping[str, Scalar]
#: A case as a key of dictionaries: its items, sorted by name.
CaseKey: TypeAlias = tuple[tuple[str, Scalar], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement."""

    experiment: str
    case: Case
    round: int
    """From 1."""
    metric: str
    unit: str
    """"s", "B", "1/s", "1" for a plain count, "1/request", "1/wake-up" …"""
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What could not be measured, and why."""

    experiment: str
    case: Case
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A number that a verdict rests on."""

    value: float
    unit: str
    rows: tuple[Mapping[str, Any], ...] = ()
    """What it was computed from: a ``{"case": …, "metric": …}`` for each median used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the numbers of an experiment say, in plain words computed from them."""

    experiment: str
    title: str
    text: str
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """How an experiment wants to be drawn: a metric, over one part of the case, by others."""

    metric: str
    unit: str
    title: str
    x: str
    """The part of the case that the horizontal axis shows."""
    series: tuple[str, ...] = ()
    """The parts that tell one line, or one colour of bars, from another."""
    kind: str = "line"
    """"line" where x is a number, "bar" where it is a name, "grid" for what is best where."""
    log_x: bool = False
    log_y: bool = False
    where: Case = field(default_factory=dict)
    """Only cases that have all of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """An experiment as its report introduces it."""

    name: str
    title: str
    question: str
    """What people ask, one sentence."""
    method: str
    """What was done to find out, a few sentences."""
    command: str
    """What repeats this experiment alone."""
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything that a report needs."""

    started: str
    """ISO 8601, with the offset from UTC."""
    command: str
    machine: Mapping[str, Scalar]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    experiments: tuple[Description, ...] = ()
    rows: tuple[Row, ...] = ()
    missing: tuple[Missing, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    doubts: tuple[str, ...] = ()
    """What makes the figures less certain: a busy machine, few rounds, the client's limits."""
    complete: bool = True
    """False where the run was stopped before its last round."""
    schema: int = SCHEMA

    def save(self, path: Path) -> None:
        """Write the document, whole or not at all. Raises OSError."""
        # One row on one line: so a person can read it, and two files can be compared by diff.
        document = asdict(self)
        lists = {name: document.pop(name) for name in ("rows", "missing")}
        head = json.dumps(
            {"schema": document.pop("schema"), **document}, indent=1, ensure_ascii=False
        )
        parts = [head.rstrip("}\n")]
        for name, items in lists.items():
            lines = ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in items)
            parts.append(f'"{name}": [\n  {lines}\n ]' if items else f'"{name}": []')
        write(path, ",\n ".join(parts) + "\n}\n")


def load(path: Path) -> Results:
    """Read a document. Raises ResultsError for what is none, OSError for what cannot be read."""
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise ResultsError(str(path), f"not JSON ({error}); name a results.json") from None
    try:
        return from_document(document)
    except reading.WrongError as error:
        raise ResultsError(str(path), str(error)) from None


def from_document(document: object) -> Results:
    top = reading.Object("", document)
    schema = top.number("schema")
    if schema != SCHEMA:
        raise reading.WrongError(
            f"schema is {schema:g}, and this version reads {SCHEMA}; measure again, or read it "
            f"with the version that wrote it"
        )
    return Results(
        started=top.text("started"),
        command=top.text("command"),
        machine=top.scalars("machine"),
        versions={name: str(value) for name, value in top.scalars("versions").items()},
        settings=top.mapping("settings"),
        experiments=tuple(map(description, top.objects("experiments"))),
        rows=tuple(map(row, top.objects("rows"))),
        missing=tuple(map(lack, top.objects("missing"))),
        verdicts=tuple(map(verdict, top.objects("verdicts"))),
        doubts=tuple(top.texts("doubts")),
        complete=top.flag("complete"),
    )


def row(item: reading.Object) -> Row:
    return Row(
        experiment=item.text("experiment"),
        case=item.scalars("case"),
        round=int(item.number("round")),
        metric=item.text("metric"),
        unit=item.text("unit"),
        value=item.number("value"),
    )


def lack(item: reading.Object) -> Missing:
    return Missing(
        experiment=item.text("experiment"), case=item.scalars("case"), reason=item.text("reason")
    )


def verdict(item: reading.Object) -> Verdict:
    facts = {
        name: Fact(
            value=fact.number("value"),
            unit=fact.text("unit"),
            rows=tuple(each.content for each in fact.objects("rows")),
        )
        for name, fact in item.members("facts")
    }
    return Verdict(
        experiment=item.text("experiment"),
        title=item.text("title"),
        text=item.text("text"),
        facts=facts,
    )


def description(item: reading.Object) -> Description:
    return Description(
        **{name: item.text(name) for name in ("name", "title", "question", "method", "command")},
        charts=tuple(map(chart, item.objects("charts"))),
    )


def chart(item: reading.Object) -> Chart:
    kind = item.text("kind")
    if kind not in ("line", "bar", "grid"):
        raise reading.WrongError(
            f'{item.place}.kind is {kind!r}; it may be "line", "bar" or "grid"'
        )
    return Chart(
        metric=item.text("metric"),
        unit=item.text("unit"),
        title=item.text("title"),
        x=item.text("x"),
        series=tuple(item.texts("series")),
        kind=kind,
        log_x=item.flag("log_x"),
        log_y=item.flag("log_y"),
        where=item.scalars("where"),
    )


def key(case: Case) -> CaseKey:
    return tuple(sorted(case.items()))


def in_order(lack: Missing) -> tuple[Any, ...]:
    """For sorting: texts first, by the alphabet, then numbers by size; runs shuffle their cases."""
    texts = [str(value) for value in lack.case.values() if isinstance(value, str)]
    numbers = [value for value in lack.case.values() if isinstance(value, int | float)]
    return texts, numbers


@dataclass(frozen=True, slots=True)
class Summary:
    """A metric of a case over its rounds."""

    median: float
    low: float
    high: float
    rounds: int
    unit: str

    @property
    def spread(self) -> float:
        """From the lowest to the highest, as a share of the median; 0 where that is 0."""
        return (self.high - self.low) / abs(self.median) if self.median else 0.0


def summaries(rows: Iterable[Row], experiment: str, metric: str) -> dict[CaseKey, Summary]:
    """Each case of an experiment that has the metric, in order of its first row."""
    values: dict[CaseKey, list[float]] = {}
    units: dict[CaseKey, str] = {}
    for each in rows:
        if each.experiment == experiment and each.metric == metric:
            values.setdefault(key(each.case), []).append(each.value)
            units[key(each.case)] = each.unit
    return {
        case: Summary(median(found), min(found), max(found), len(found), units[case])
        for case, found in values.items()
    }


def write(path: Path, text: str) -> None:
    """Replace a file in one step, so that no reader, and no interrupt, meets half of it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o666 & ~umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
