"""Waiting, seen from elsewhere: other threads, signals, forked children."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from selectors import EVENT_READ, EVENT_WRITE
from socket import socket
from types import FrameType
from typing import NoReturn

import pytest

from neverblock.multiplexers import Selector

Connected = Callable[[], tuple[socket, socket]]
Handler = Callable[[int, FrameType | None], None]
Alarms = Callable[[Handler], None]


class Alarm(Exception):
    pass


@pytest.fixture
def alarms() -> Iterator[Alarms]:
    """Sends SIGALRM to this process again and again: sooner or later one meets the wait."""
    before = signal.getsignal(signal.SIGALRM)

    def start(handler: Handler) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def wait_in_kernel(multiplexer: Selector) -> None:
    """Returns once another thread is inside wait(): it counts before it gives up the GIL."""
    while multiplexer.statistics()["waits"] == 0:
        os.sched_yield()


def test_other_threads_run_during_a_wait(multiplexer: Selector, connected: Connected) -> None:
    ours, theirs = connected()
    key = multiplexer.register(ours, EVENT_READ)

    def send() -> None:
        wait_in_kernel(multiplexer)
        theirs.send(b"x")

    thread = threading.Thread(target=send)
    thread.start()
    assert multiplexer.select() == [(key, EVENT_READ)]
    thread.join()


def test_two_threads_cannot_wait_at_once(multiplexer: Selector, connected: Connected) -> None:
    ours, theirs = connected()
    multiplexer.register(ours, EVENT_READ)
    thread = threading.Thread(target=multiplexer.select)
    thread.start()
    try:
        wait_in_kernel(multiplexer)
        with pytest.raises(RuntimeError, match="another thread waits"):
            multiplexer.select(0)
    finally:
        theirs.send(b"x")
        thread.join()
    assert multiplexer.select(0)


def test_watching_from_another_thread(
    multiplexer: Selector, connected: Connected, backend: str
) -> None:
    ours, theirs = connected()
    other, _ = connected()
    multiplexer.register(ours, EVENT_READ)
    thread = threading.Thread(target=multiplexer.select)
    thread.start()
    try:
        wait_in_kernel(multiplexer)
        if backend == "poll":
            with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                multiplexer.register(other, EVENT_READ)
            with pytest.raises(KeyError):
                multiplexer.get_key(other)
        else:
            multiplexer.register(other, EVENT_READ)
            multiplexer.unregister(other)
    finally:
        theirs.send(b"x")
        thread.join()


def test_a_signal_ends_the_wait_with_nothing(multiplexer: Selector, alarms: Alarms) -> None:
    arrived = []
    alarms(lambda *_: arrived.append(None))
    while not arrived:  # the end of another test's io_uring may be as good as a signal, once
        assert multiplexer._wait(-1, 0) == []


def test_select_goes_on_after_a_signal(
    multiplexer: Selector, connected: Connected, alarms: Alarms
) -> None:
    ours, theirs = connected()
    key = multiplexer.register(ours, EVENT_READ)
    arrived = 0

    def handler(*_: object) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 3:
            theirs.send(b"x")

    alarms(handler)
    assert multiplexer.select() == [(key, EVENT_READ)]
    assert arrived >= 3


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_handler_that_raises_ends_select(
    multiplexer: Selector, alarms: Alarms, timeout: float | None
) -> None:
    def handler(*_: object) -> NoReturn:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise Alarm

    def wait() -> None:
        alarms(handler)
        multiplexer.select(timeout)

    with pytest.raises(Alarm):
        wait()


def test_signals_do_not_prolong_a_timeout(multiplexer: Selector, alarms: Alarms) -> None:
    alarms(lambda *_: None)
    assert multiplexer.select(0.05) == []


FORK = """
import os, selectors, socket, sys
from neverblock import multiplexers

ours, theirs = socket.socketpair()
watched = multiplexers.create(sys.argv[1])
key = watched.register(ours, selectors.EVENT_READ)
if (pid := os.fork()) == 0:
    watched.close()
    fresh = multiplexers.create(sys.argv[1])
    fresh.register(ours, selectors.EVENT_WRITE)
    assert [mask for _, mask in fresh.select()] == [selectors.EVENT_WRITE]
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
theirs.send(b"x")
assert watched.select() == [(key, selectors.EVENT_READ)]
"""


def test_a_forked_child_lets_go_without_harm_to_its_parent(backend: str) -> None:
    # A process of its own: forking one that has had threads is what Python warns of.
    subprocess.run([sys.executable, "-c", FORK, backend], check=True)


def test_the_descriptor_is_not_inherited_and_can_be_watched(
    multiplexer: Selector, connected: Connected, backend: str
) -> None:
    if backend not in ("epoll", "kqueue"):
        assert not hasattr(multiplexer, "fileno")
        return
    fd = multiplexer.fileno()
    assert not os.get_inheritable(fd)
    ours, _ = connected()
    assert select.select([multiplexer], [], [], 0)[0] == []
    multiplexer.register(ours, EVENT_WRITE)
    assert select.select([multiplexer], [], [], 0)[0] == [multiplexer]
    multiplexer.close()
    with pytest.raises(ValueError, match="closed"):
        multiplexer.fileno()
