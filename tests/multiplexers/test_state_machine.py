"""Random uses of a multiplexer, compared after each step with the standard library's selectors."""

import os
import selectors
import socket

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from neverblock import multiplexers

ORACLES = {
    "epoll": "EpollSelector",
    "io_uring": "PollSelector",
    "kqueue": "KqueueSelector",
    "poll": "PollSelector",
    "select": "SelectSelector",
}

masks = st.sampled_from([selectors.EVENT_READ, selectors.EVENT_WRITE, 3])
ends = st.integers(0, 5)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


class Comparison(RuleBasedStateMachine):
    """Three pairs of sockets; ours watches them all along, the oracle is made anew each time.

    Where a descriptor was closed while it was registered the backends differ: the kernel's own
    tables (epoll, kqueue) forget it, poll reports it, and so does our select, while the standard
    library's fails as a whole. io_uring keeps the file open until it tells something: there, what
    is closed was unregistered first, as it should be.
    """

    backend: str

    def __init__(self) -> None:
        super().__init__()
        self.ours = multiplexers.create(self.backend)
        self.oracle = getattr(selectors, ORACLES[self.backend])
        self.forgets = self.backend in ("epoll", "kqueue")
        self.sockets: list[socket.socket] = []
        for _ in range(3):
            self.sockets += self.connect()
        self.registered: dict[int, tuple[int, object]] = {}
        self.forgotten: set[int] = set()  # registered numbers that the kernel knows no more

    def connect(self) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for end in pair:
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        return pair

    @rule(end=ends, mask=masks, data=st.none() | st.integers())
    def register(self, end: int, mask: int, data: object) -> None:
        sock = self.sockets[end]
        fd = sock.fileno()
        if fd < 0:
            with pytest.raises(ValueError, match="-1"):
                self.ours.register(fd, mask, data)
        elif fd in self.registered:
            with pytest.raises(KeyError):
                self.ours.register(sock, mask, data)
        else:
            key = self.ours.register(sock, mask, data)
            assert key == (sock, fd, mask, data)
            self.registered[fd] = mask, data

    @precondition(lambda self: self.registered)
    @rule(draw=st.data(), mask=masks, data=st.none() | st.integers())
    def modify(self, draw: st.DataObject, mask: int, data: object) -> None:
        fd = draw.draw(st.sampled_from(sorted(self.registered)))
        if fd in self.forgotten and mask != self.registered[fd][0]:
            with pytest.raises(OSError):
                self.ours.modify(fd, mask, data)
            del self.registered[fd]
            self.forgotten.discard(fd)
        else:
            assert self.ours.modify(fd, mask, data)[1:] == (fd, mask, data)
            self.registered[fd] = mask, data

    @precondition(lambda self: self.registered)
    @rule(draw=st.data())
    def unregister(self, draw: st.DataObject) -> None:
        fd = draw.draw(st.sampled_from(sorted(self.registered)))
        assert self.ours.unregister(fd)[1:] == (fd, *self.registered.pop(fd))
        self.forgotten.discard(fd)

    @rule(end=ends)
    def unregister_by_object(self, end: int) -> None:
        sock = self.sockets[end]
        known = any(key.fileobj is sock for key in self.ours.get_map().values())
        if known and (sock.fileno() in self.registered or sock.fileno() < 0):
            fd = self.ours.unregister(sock).fd
            del self.registered[fd]
            self.forgotten.discard(fd)
        elif sock.fileno() not in self.registered:
            with pytest.raises((KeyError, ValueError)):
                self.ours.unregister(sock)

    @rule(end=ends)
    def send(self, end: int) -> None:
        try:
            self.sockets[end].send(b"x")
        except OSError:  # full, shut down or closed
            pass

    @rule(end=ends)
    def fill(self, end: int) -> None:
        try:
            while True:
                self.sockets[end].send(bytes(4096))
        except OSError:
            pass

    @rule(end=ends)
    def drain(self, end: int) -> None:
        try:
            while self.sockets[end].recv(65536):
                pass
        except OSError:
            pass

    @rule(end=ends, how=st.sampled_from([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR]))
    def shut_down(self, end: int, how: int) -> None:
        try:
            self.sockets[end].shutdown(how)
        except OSError:
            pass

    @rule(end=ends)
    def close(self, end: int) -> None:
        fd = self.sockets[end].fileno()
        if self.backend == "io_uring" and fd in self.registered:
            self.ours.unregister(fd)
            del self.registered[fd]
        self.sockets[end].close()
        if self.forgets and fd in self.registered:
            self.forgotten.add(fd)

    @rule(pair=st.integers(0, 2))
    def connect_again(self, pair: int) -> None:
        """Mostly takes the numbers that were closed, watched or not."""
        for end in self.sockets[2 * pair : 2 * pair + 2]:
            self.close(self.sockets.index(end))
        self.sockets[2 * pair : 2 * pair + 2] = self.connect()

    @invariant()
    def same_as_the_standard_library(self) -> None:
        expected = {}
        with self.oracle() as oracle:
            for fd, (mask, _) in self.registered.items():
                if fd in self.forgotten:
                    continue
                if is_open(fd):
                    oracle.register(fd, mask)
                else:
                    expected[fd] = mask
            expected |= ready(oracle)
        assert ready(self.ours) == expected

    @invariant()
    def map_as_registered(self) -> None:
        registered = {fd: (key.events, key.data) for fd, key in self.ours.get_map().items()}
        assert registered == self.registered

    def teardown(self) -> None:
        self.ours.close()
        for sock in self.sockets:
            sock.close()


def ready(selector: selectors.BaseSelector) -> dict[int, int]:
    found: dict[int, int] = {}
    for key, mask in selector.select(0):
        found[key.fd] = found.get(key.fd, 0) | mask
    return found


def test_random_uses(backend: str) -> None:
    machine = type("Case", (Comparison,), {"backend": backend})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=100, stateful_step_count=40, deadline=None)
    )
