"""What the multiplexers' tests share: one of the backend at hand, and sockets to watch."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from neverblock import multiplexers

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def multiplexer(backend: str) -> Iterator[multiplexers.Selector]:
    with closing(multiplexers.create(backend)) as created:
        yield created


@pytest.fixture
def connected() -> Iterator[Callable[[], Pair]]:
    """Makes pairs of connected non-blocking sockets, closed after the test."""
    with ExitStack() as stack:

        def make() -> Pair:
            pair = socket.socketpair()
            for end in pair:
                stack.enter_context(end)
                end.setblocking(False)
            return pair

        yield make
