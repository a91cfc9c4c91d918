"""Bytes that look like chance, the same in every process and run: messages are cut from them."""

from random import Random
from typing import Final

#: Bytes that are made at once: Random counts bits by an int, and cannot make 256 MiB or more. It
#: makes four bytes at a time, so the pieces are what it would make in one.
PIECE: Final = 1 << 20


def pattern(seed: int, length: int) -> bytes:
    """So many bytes; each seed has its own."""
    chance = Random(seed)
    return b"".join(chance.randbytes(min(PIECE, length - at)) for at in range(0, length, PIECE))
