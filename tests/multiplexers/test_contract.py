"""The contract of a multiplexer, the same on every backend: what is watched, what is reported."""

import errno
import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neverblock.errors import DescriptorLimitError
from neverblock.multiplexers import Selector

READ, WRITE, BOTH = 1, 2, 3
LIMIT = 1024
#: The kernel keeps their tables, and forgets what was closed.
FORGETTING = ("epoll", "io_uring", "kqueue")

Connected = Callable[[], tuple[socket.socket, socket.socket]]


def ready(multiplexer: Selector, timeout: float = 0.0) -> dict[int, int]:
    """What is ready, by descriptor: kqueue reports the two sides of one as two events."""
    found: dict[int, int] = {}
    for fd, mask in multiplexer._wait(timeout, 0):
        assert mask in (READ, WRITE, BOTH)
        found[fd] = found.get(fd, 0) | mask
    return found


def fill(sock: socket.socket) -> None:
    while True:
        try:
            sock.send(bytes(65536))
        except BlockingIOError:
            return


def drain(sock: socket.socket) -> None:
    while True:
        try:
            sock.recv(65536)
        except BlockingIOError:
            return


@contextmanager
def moved(sock: socket.socket, at_least: int) -> Iterator[int]:
    """A duplicate with a high number."""
    fd = fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, at_least)
    try:
        yield fd
    finally:
        os.close(fd)


def test_reading(multiplexer: Selector, connected: Connected) -> None:
    ours, theirs = connected()
    multiplexer._add(ours.fileno(), READ)
    assert ready(multiplexer) == {}
    theirs.send(b"x")
    assert ready(multiplexer) == {ours.fileno(): READ}
    assert ready(multiplexer) == {ours.fileno(): READ}, "level-triggered: told until it is read"
    ours.recv(1)
    assert ready(multiplexer) == {}


def test_writing(multiplexer: Selector, connected: Connected) -> None:
    ours, theirs = connected()
    multiplexer._add(ours.fileno(), WRITE)
    assert ready(multiplexer) == {ours.fileno(): WRITE}
    fill(ours)
    assert ready(multiplexer) == {}
    drain(theirs)
    assert ready(multiplexer) == {ours.fileno(): WRITE}


def test_both_sides_at_once(multiplexer: Selector, connected: Connected) -> None:
    ours, theirs = connected()
    multiplexer._add(ours.fileno(), BOTH)
    theirs.send(b"x")
    assert ready(multiplexer) == {ours.fileno(): BOTH}


def test_change(multiplexer: Selector, connected: Connected) -> None:
    ours, theirs = connected()
    theirs.send(b"x")
    multiplexer._add(ours.fileno(), WRITE)
    for mask in (READ, BOTH, WRITE, READ, WRITE):
        multiplexer._change(ours.fileno(), mask)
        assert ready(multiplexer) == {ours.fileno(): mask}


def test_drop(multiplexer: Selector, connected: Connected) -> None:
    ours, theirs = connected()
    multiplexer._add(ours.fileno(), BOTH)
    multiplexer._add(theirs.fileno(), WRITE)
    multiplexer._drop(ours.fileno())
    assert ready(multiplexer) == {theirs.fileno(): WRITE}
    multiplexer._add(ours.fileno(), WRITE)
    multiplexer._drop(theirs.fileno())
    assert ready(multiplexer) == {ours.fileno(): WRITE}


def test_pipes(multiplexer: Selector) -> None:
    reader, writer = os.pipe()
    try:
        multiplexer._add(reader, READ)
        multiplexer._add(writer, WRITE)
        assert ready(multiplexer) == {writer: WRITE}
        os.write(writer, b"x")
        assert ready(multiplexer) == {reader: READ, writer: WRITE}
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("mask", [READ, WRITE, BOTH])
def test_hang_up_is_told_to_whoever_asked(
    multiplexer: Selector, connected: Connected, mask: int
) -> None:
    ours, theirs = connected()
    fill(ours)
    multiplexer._add(ours.fileno(), mask)
    assert ready(multiplexer) == {}
    theirs.close()
    assert ready(multiplexer) == {ours.fileno(): mask}


def test_writer_of_a_pipe_without_reader(multiplexer: Selector) -> None:
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        while True:
            try:
                os.write(writer, bytes(65536))
            except BlockingIOError:
                break
        multiplexer._add(writer, WRITE)
        assert ready(multiplexer) == {}
    finally:
        os.close(reader)
    try:
        assert ready(multiplexer) == {writer: WRITE}
    finally:
        os.close(writer)


def test_reader_of_a_pipe_without_writer(multiplexer: Selector) -> None:
    reader, writer = os.pipe()
    try:
        multiplexer._add(reader, READ)
        os.close(writer)
        assert ready(multiplexer) == {reader: READ}
    finally:
        os.close(reader)


def test_half_close(multiplexer: Selector, connected: Connected) -> None:
    ours, theirs = connected()
    fill(ours)
    multiplexer._add(ours.fileno(), BOTH)
    theirs.shutdown(socket.SHUT_WR)
    assert ready(multiplexer) == {ours.fileno(): READ}


def test_many(multiplexer: Selector, connected: Connected) -> None:
    pairs = [connected() for _ in range(150)]
    for ours, theirs in pairs:
        multiplexer._add(ours.fileno(), READ)
        multiplexer._add(theirs.fileno(), WRITE)
    for _, theirs in pairs:
        theirs.send(b"x")
    left = {ours.fileno() for ours, _ in pairs} | {theirs.fileno() for _, theirs in pairs}
    # A wait may bring fewer than there are, but the others come at the next ones.
    while left:
        found = ready(multiplexer)
        assert found, left
        left.difference_update(found)
    for ours, theirs in pairs[::2]:
        multiplexer._drop(ours.fileno())
        multiplexer._drop(theirs.fileno())
    for _, theirs in pairs[1::2]:
        multiplexer._change(theirs.fileno(), READ)
    ours, theirs = pairs[77]
    for other, _ in pairs[1::2]:
        if other is not ours:
            other.recv(1)
    assert ready(multiplexer) == {ours.fileno(): READ}


def test_everything_is_reported_once_the_array_has_grown(
    multiplexer: Selector, connected: Connected
) -> None:
    fds = [end.fileno() for _ in range(100) for end in connected()]
    for fd in fds:
        multiplexer._add(fd, WRITE)
    for _ in range(3):
        ready(multiplexer)
    assert ready(multiplexer) == dict.fromkeys(fds, WRITE)


def test_nothing_watched(multiplexer: Selector) -> None:
    assert ready(multiplexer) == {}
    assert ready(multiplexer, 0.001) == {}


def waited(multiplexer: Selector, timeout: float) -> float:
    start = time.monotonic()
    assert ready(multiplexer, timeout) == {}
    return time.monotonic() - start


@given(timeout=st.floats(0, 0.003))
@example(timeout=5e-324)
@example(timeout=1e-9)
@example(timeout=0.0009999999999)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_wait_never_ends_early(multiplexer: Selector, timeout: float) -> None:
    # The end of an io_uring interrupts the threads that used it, once and a while later, in
    # whatever they wait for by then.
    assert any(waited(multiplexer, timeout) >= timeout for _ in range(3))


@pytest.mark.parametrize("timeout", [-1.0, 1e10, 1e300, float("inf")])
def test_long_timeouts_wait_until_something_happens(
    multiplexer: Selector, connected: Connected, timeout: float
) -> None:
    ours, _ = connected()
    multiplexer._add(ours.fileno(), WRITE)
    assert ready(multiplexer, timeout) == {ours.fileno(): WRITE}


def test_added_twice(multiplexer: Selector, connected: Connected) -> None:
    ours, _ = connected()
    multiplexer._add(ours.fileno(), READ)
    with pytest.raises(FileExistsError):
        multiplexer._add(ours.fileno(), WRITE)
    assert ready(multiplexer) == {}


def test_change_of_what_is_not_watched(multiplexer: Selector, connected: Connected) -> None:
    ours, theirs = connected()
    multiplexer._add(theirs.fileno(), READ)
    with pytest.raises(FileNotFoundError):
        multiplexer._change(ours.fileno(), WRITE)
    assert ready(multiplexer) == {}


def test_drop_of_what_is_not_watched(multiplexer: Selector, connected: Connected) -> None:
    ours, theirs = connected()
    multiplexer._add(theirs.fileno(), WRITE)
    for fd in (ours.fileno(), 1_000_000, -1):
        multiplexer._drop(fd)
    assert ready(multiplexer) == {theirs.fileno(): WRITE}


def test_descriptor_that_is_not_open(multiplexer: Selector, connected: Connected) -> None:
    ours, _ = connected()
    fd = ours.fileno()
    ours.close()
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        multiplexer._add(fd, READ)
    assert caught.value.errno == errno.EBADF
    assert ready(multiplexer) == {}


@pytest.mark.parametrize(("fd", "mask"), [(-1, READ), (-(2**31), BOTH)])
def test_negative_descriptor(multiplexer: Selector, fd: int, mask: int) -> None:
    for method in (multiplexer._add, multiplexer._change):
        with pytest.raises(ValueError, match="not a file descriptor: -"):
            method(fd, mask)


@pytest.mark.parametrize("mask", [0, 4, 7, -1])
def test_bad_mask(multiplexer: Selector, connected: Connected, mask: int) -> None:
    ours, _ = connected()
    for method in (multiplexer._add, multiplexer._change):
        with pytest.raises(ValueError, match=rf"mask of READ \(1\) and WRITE \(2\): {mask}"):
            method(ours.fileno(), mask)


def test_closed_descriptor_does_not_stop_the_others(
    multiplexer: Selector, connected: Connected, backend: str
) -> None:
    bad, busy, idle = (connected()[0] for _ in range(3))
    fd = bad.fileno()
    multiplexer._add(fd, READ)
    multiplexer._add(busy.fileno(), WRITE)
    multiplexer._add(idle.fileno(), READ)
    bad.close()
    # Where the kernel keeps the table it forgets what was closed; elsewhere whoever asked is told.
    expected = {} if backend in FORGETTING else {fd: READ}
    for _ in range(2):
        assert ready(multiplexer, -1) == {busy.fileno(): WRITE, **expected}
    multiplexer._drop(fd)
    assert ready(multiplexer, -1) == {busy.fileno(): WRITE}


def test_closed_descriptors_are_told_what_they_asked_for(
    multiplexer: Selector, connected: Connected, backend: str
) -> None:
    if backend in FORGETTING:
        pytest.skip("the kernel forgets closed descriptors")
    pairs = [connected() for _ in range(3)]
    asked = {}
    for pair, mask in zip(pairs, (READ, WRITE, BOTH), strict=True):
        for end in pair:
            multiplexer._add(end.fileno(), mask)
            asked[end.fileno()] = mask
    for pair in pairs:
        for end in pair:
            end.close()
    assert ready(multiplexer, -1) == asked


def test_number_taken_again_after_close_and_drop(
    multiplexer: Selector, connected: Connected
) -> None:
    first, _ = connected()
    second, _ = connected()
    fd = first.fileno()
    multiplexer._add(fd, READ)
    first.close()
    multiplexer._drop(fd)
    os.dup2(second.fileno(), fd)
    try:
        multiplexer._add(fd, WRITE)
        assert ready(multiplexer) == {fd: WRITE}
    finally:
        os.close(fd)
    multiplexer._drop(fd)


@pytest.mark.parametrize("by", ["a file", "a directory", "the multiplexer itself"])
def test_number_taken_after_close_by_what_cannot_be_watched(
    multiplexer: Selector, connected: Connected, backend: str, by: str
) -> None:
    if by == "the multiplexer itself" and backend not in ("epoll", "kqueue"):
        pytest.skip("it has no descriptor")
    first, _ = connected()
    second, _ = connected()
    fd = first.fileno()
    multiplexer._add(fd, READ)
    multiplexer._add(second.fileno(), WRITE)
    first.close()
    if by == "the multiplexer itself":
        os.dup2(multiplexer.fileno(), fd)  # type: ignore[attr-defined]
    else:
        taken = os.open(__file__ if by == "a file" else os.curdir, os.O_RDONLY)
        os.dup2(taken, fd)
        if taken != fd:
            os.close(taken)
    try:
        multiplexer._drop(fd)
        assert ready(multiplexer) == {second.fileno(): WRITE}
    finally:
        os.close(fd)


def test_limit(multiplexer: Selector, connected: Connected, backend: str) -> None:
    ours, _ = connected()
    multiplexer._add(ours.fileno(), WRITE)
    with moved(ours, LIMIT - 1) as last, moved(ours, LIMIT) as beyond:
        multiplexer._add(last, WRITE)
        assert ready(multiplexer) == {ours.fileno(): WRITE, last: WRITE}
        if backend == "select":
            assert multiplexer.limit == LIMIT
            with pytest.raises(
                DescriptorLimitError,
                match=rf"select cannot watch descriptor {beyond}: .* 0 to 1023 .*"
                r"NEVERBLOCK_BACKEND=",
            ) as caught:
                multiplexer._add(beyond, READ)
            assert (caught.value.descriptor, caught.value.limit) == (beyond, LIMIT)
            with pytest.raises(FileNotFoundError):
                multiplexer._change(beyond, READ)
            multiplexer._drop(beyond)
            assert ready(multiplexer) == {ours.fileno(): WRITE, last: WRITE}, "the others go on"
        else:
            assert multiplexer.limit == -1
            multiplexer._add(beyond, WRITE)
            assert ready(multiplexer) == {ours.fileno(): WRITE, last: WRITE, beyond: WRITE}
            multiplexer._drop(beyond)
        multiplexer._drop(last)
    assert ready(multiplexer) == {ours.fileno(): WRITE}


def test_regular_file(multiplexer: Selector, backend: str) -> None:
    with tempfile.TemporaryFile() as file:
        if backend == "epoll":
            with pytest.raises(PermissionError):
                multiplexer._add(file.fileno(), READ)
        else:
            multiplexer._add(file.fileno(), WRITE)
            assert ready(multiplexer) == {file.fileno(): WRITE}


def test_after_release(multiplexer: Selector, connected: Connected) -> None:
    ours, _ = connected()
    multiplexer._add(ours.fileno(), READ)
    multiplexer._release()
    multiplexer._release()
    for method in (multiplexer._add, multiplexer._change):
        with pytest.raises(ValueError, match="closed"):
            method(ours.fileno(), WRITE)
    with pytest.raises(ValueError, match="closed"):
        multiplexer._wait(0, 0)
    multiplexer._drop(ours.fileno())


def test_statistics(multiplexer: Selector, connected: Connected, backend: str) -> None:
    ours, theirs = connected()
    low, high = sorted((ours.fileno(), theirs.fileno()))
    multiplexer._add(low, WRITE)
    multiplexer._add(high, READ)
    ready(multiplexer)
    ready(multiplexer)
    multiplexer._change(low, READ)
    ready(multiplexer)
    multiplexer._drop(high)
    handed_in, looked_at = {
        # changes, of which kqueue needs two to move a descriptor from one side to the other
        "epoll": (4, 2),
        # changes, each as a request that ends and one that begins, and a look at who was ready
        # before; what the kernel told, and those looks
        "io_uring": (7, 4),
        "kqueue": (5, 2),
        # both at each of three waits; looks until the one that is ready was found
        "poll": (6, 2),
        # looks at every number there may be, unless none is ready
        "select": (6, 2 * (high + 1)),
    }[backend]
    assert multiplexer.statistics() == {
        "waits": 3,
        "descriptors_handed_in": handed_in,
        "descriptors_looked_at": looked_at,
        "events_out": 2,
    }
