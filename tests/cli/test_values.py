"""Values of options: whatever is written in any of the ways means the same."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverblock.cli.values import Mode, Size, Threshold, Workers
from neverblock.watch import LEAST_THRESHOLD


@given(st.integers(0, 0o7777))
def test_a_mode_is_octal_however_it_is_written(mode: int) -> None:
    for text in (f"{mode:o}", f"0{mode:o}", f"0o{mode:o}"):
        assert Mode().convert(text, None, None) == mode


@given(st.integers(0, 2**40), st.sampled_from([("", 0), ("K", 10), ("M", 20), ("G", 30)]))
def test_a_size_may_have_a_suffix(number: int, suffix: tuple[str, int]) -> None:
    letter, bits = suffix
    ways = {letter, letter.lower(), f"{letter}B", f"{letter}iB"} if letter else {"", "B"}
    for way in ways:
        assert Size().convert(f"{number}{way}", None, None) == number << bits


@given(st.text() | st.integers().map(str) | st.floats().map(str))
def test_anything_else_is_refused(text: str) -> None:
    for kind in (Mode(), Size(), Workers()):
        try:
            value = kind.convert(text, None, None)
        except click.BadParameter as error:
            message = error.message
            value = None
        else:
            message = ""
        assert isinstance(value, int) or "write " in message


def test_auto_is_a_worker_at_least() -> None:
    assert Workers().convert("auto", None, None) >= 1


@given(st.just(0.0) | st.floats(LEAST_THRESHOLD, 1e9))
def test_a_threshold_is_seconds(seconds: float) -> None:
    assert Threshold().convert(str(seconds), None, None) == seconds


def test_a_threshold_may_be_off() -> None:
    assert Threshold().convert("off", None, None) == 0


@pytest.mark.parametrize("text", ["", "on", "-0.1", "0.0009", "inf", "nan"])
def test_what_is_no_threshold_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match='write seconds, like 0.1, or "off"'):
        Threshold().convert(text, None, None)


@pytest.mark.parametrize("text", ["", " ", "-1", "0x10", "8", "0o", "777777", "\u0667"])
def test_what_is_no_octal_number_is_no_mode(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Mode().convert(text, None, None)
