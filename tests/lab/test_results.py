"""results.json: what is written is read again, what is wrong in it is told with its place."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverblock.errors import ResultsError
from neverblock.lab.results import Missing, Results, Row, in_order, key, load, summaries

SAMPLE = Path(__file__).with_name("sample.json")

SCALARS = st.one_of(st.text(), st.integers(-(2**53), 2**53), st.booleans(), st.none())
ROWS = st.builds(
    Row,
    experiment=st.text(),
    case=st.dictionaries(st.text(), SCALARS),
    round=st.integers(1, 100),
    metric=st.text(),
    unit=st.text(),
    value=st.floats(allow_nan=False, allow_infinity=False),
)


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    sample = load(SAMPLE)
    assert sample.rows
    assert sample.missing
    assert sample.verdicts
    sample.save(tmp_path / "again.json")
    assert load(tmp_path / "again.json") == sample
    assert (tmp_path / "again.json").read_text() == SAMPLE.read_text()


@given(st.lists(ROWS, max_size=5))
def test_any_rows_are_loaded_again(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    path = tmp_path_factory.mktemp("rows") / "results.json"
    dataclasses.replace(load(SAMPLE), rows=tuple(rows)).save(path)
    assert load(path).rows == tuple(rows)


def test_nothing_is_left_beside_it_and_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    mask = os.umask(0o022)
    try:
        load(SAMPLE).save(path)
        load(SAMPLE).save(path)
    finally:
        os.umask(mask)
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_document_without_anything_measured_is_one(tmp_path: Path) -> None:
    empty = Results(
        started="2026-11-24T21:00:00+00:00",
        command="neverblock compare",
        machine={},
        versions={},
        settings={},
        complete=False,
    )
    empty.save(tmp_path / "empty.json")
    assert load(tmp_path / "empty.json") == empty


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("schema",), 2, "schema is 2, and this version reads 1; measure again"),
        (("schema",), None, "schema is None, not a number"),
        (("rows",), {}, "rows is {}, not a list"),
        (("rows", 3), "x", "rows[3] is 'x', not an object"),
        (("rows", 0, "value"), "12", "rows[0].value is '12', not a number"),
        (("rows", 0, "value"), True, "rows[0].value is True, not a number"),
        (("rows", 0, "value"), float("nan"), "rows[0].value is nan, not a number"),
        (("rows", 0, "value"), float("inf"), "rows[0].value is inf, not a number"),
        (("rows", 0, "case", "model"), [], "rows[0].case.model is [], not a text, a number"),
        (("missing", 0, "reason"), ..., "missing[0].reason is missing"),
        (("verdicts", 0, "facts", "poll, none idle", "unit"), 1, "facts.poll, none idle.unit is 1"),
        (("experiments", 0, "charts", 0, "kind"), "pie", "charts[0].kind is 'pie'; it may be"),
        (("experiments", 0, "charts", 0, "series"), [1], "series[0] is 1, not a text"),
        (("complete",), "yes", "complete is 'yes', not true or false"),
        (("machine",), ..., "machine is missing"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    tmp_path: Path, place: tuple[Any, ...], value: Any, told: str
) -> None:
    document = json.loads(SAMPLE.read_text())
    inner = document
    for step in place[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ResultsError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "12", "\0"])
def test_what_is_no_document_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ResultsError):
        load(path)


def test_what_is_missing_is_told_in_order() -> None:
    cases: list[dict[str, Any]] = [
        {"backend": "select", "connections": 10_000},
        {"backend": "select", "connections": 5_000},
        {"backend": "poll", "connections": 15_000},
        {"backend": "poll", "idle": None},
    ]
    found = sorted((Missing(experiment="e", case=case, reason="") for case in cases), key=in_order)
    assert [list(lack.case.values()) for lack in found] == [
        ["poll", None], ["poll", 15_000], ["select", 5_000], ["select", 10_000],
    ]  # fmt: skip


def test_medians_over_the_rounds() -> None:
    def row(number: int, value: float, **case: Any) -> Row:
        return Row(experiment="e", case=case, round=number, metric="m", unit="s", value=value)

    rows = [row(1, 3.0, a=1), row(1, 8.0, a=2), row(2, 1.0, a=1), row(3, 2.0, a=1)]
    rows += [
        dataclasses.replace(rows[0], metric="other"),
        dataclasses.replace(rows[0], experiment="f"),
    ]
    found = summaries(rows, "e", "m")
    assert list(found) == [key({"a": 1}), key({"a": 2})]
    first = found[key({"a": 1})]
    assert (first.median, first.low, first.high, first.rounds, first.unit) == (
        2.0,
        1.0,
        3.0,
        3,
        "s",
    )
    assert first.spread == 1.0
    assert found[key({"a": 2})].spread == 0.0
