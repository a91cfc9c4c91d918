"""What messages are cut from: the same everywhere, of any length that a plan allows."""

from __future__ import annotations

from random import Random

import pytest

from neverblock.load.echo import Messages
from neverblock.load.pattern import PIECE, pattern


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 7])
def test_a_pattern_that_is_made_in_pieces_is_that_of_one(length: int) -> None:
    assert pattern(3, length) == Random(3).randbytes(length)


def test_messages_of_more_than_a_piece_differ_and_are_whole() -> None:
    messages = Messages(PIECE + 1)
    assert {len(message) for message in messages.all} == {PIECE + 1}
    assert len(set(messages.all)) == messages.count > 1
    assert messages.all[1][:-1] == messages.all[0][1:]
