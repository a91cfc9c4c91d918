"""io_uring alone: requests that outlive what they were for, full rings, a kernel that refuses."""

import errno
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from neverblock import multiplexers
from neverblock.multiplexers import Selector

READ, WRITE = 1, 2
#: Answers that its ring has room for, and requests that one call hands in.
ANSWERS, REQUESTS = 4096, 256

Connected = Callable[[], tuple[socket.socket, socket.socket]]


@pytest.fixture(autouse=True)
def multiplexer() -> Iterator[Selector]:
    if reason := multiplexers.available()["io_uring"]:
        pytest.skip(f"io_uring: {reason}")
    with closing(multiplexers.create("io_uring")) as created:
        yield created


def ready(multiplexer: Selector, timeout: float = 0.0) -> dict[int, int]:
    found = multiplexer._wait(timeout, 0)
    assert len(dict(found)) == len(found), "a descriptor is reported once"
    return dict(found)


def next_ready(multiplexer: Selector) -> dict[int, int]:
    """Waits for it: a wait may end with nothing, where a request ended or another ring did."""
    while not (found := ready(multiplexer, -1)):
        pass
    return found


def armed(multiplexer: Selector, sock: socket.socket, mask: int) -> int:
    """Its descriptor, which the kernel watches and has nothing to tell of."""
    multiplexer._add(sock.fileno(), mask)
    assert ready(multiplexer) == {}
    return sock.fileno()


def at_its_end(sock: socket.socket) -> bool:
    """Whether the other end is closed, in fact and not only by its number."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


def test_unread_data_is_told_again_after_waits_that_slept(
    multiplexer: Selector, connected: Connected
) -> None:
    ours, theirs = connected()
    fd = armed(multiplexer, ours, READ)
    thread = threading.Thread(target=theirs.send, args=(b"xyz",))
    thread.start()
    for _ in range(3):
        assert next_ready(multiplexer) == {fd: READ}
        ours.recv(1)
    thread.join()
    assert ready(multiplexer) == {}
    theirs.send(b"x")
    assert next_ready(multiplexer) == {fd: READ}, "told of what came after it was once empty"


def test_what_is_over_before_the_wait_is_not_told(
    multiplexer: Selector, connected: Connected
) -> None:
    ours, theirs = connected()
    armed(multiplexer, ours, READ)
    theirs.send(b"x")
    ours.recv(1)
    assert ready(multiplexer) == {}
    theirs.send(b"x")
    assert ready(multiplexer) == {ours.fileno(): READ}


def test_a_half_closed_peer_wakes_no_writer_that_cannot_write(
    multiplexer: Selector, connected: Connected
) -> None:
    """The kernel tells it (POLLRDHUP) to whoever asks for anything."""
    ours, theirs = connected()
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(bytes(65536))
    fd = armed(multiplexer, ours, WRITE)
    theirs.shutdown(socket.SHUT_WR)
    for _ in range(3):
        assert ready(multiplexer, 0.001) == {}
    before = multiplexer.statistics()["descriptors_looked_at"]
    for _ in range(10):
        assert ready(multiplexer) == {}
    assert multiplexer.statistics()["descriptors_looked_at"] == before
    with pytest.raises(BlockingIOError):
        while True:
            theirs.recv(65536)
    assert next_ready(multiplexer) == {fd: WRITE}


def test_a_drop_lets_go_of_the_file_at_once(multiplexer: Selector, connected: Connected) -> None:
    """No wait follows: a loop may be stopped for long."""
    ours, theirs = connected()
    multiplexer._drop(armed(multiplexer, ours, READ))
    ours.close()
    assert at_its_end(theirs)


def test_the_file_is_closed_by_drop_after_close(
    multiplexer: Selector, connected: Connected
) -> None:
    ours, theirs = connected()
    fd = armed(multiplexer, ours, READ)
    ours.close()
    assert not at_its_end(theirs), "the request holds it"
    multiplexer._drop(fd)
    assert at_its_end(theirs)


def test_a_closed_file_is_let_go_of_once_it_tells_something(
    multiplexer: Selector, connected: Connected
) -> None:
    ours, theirs = connected()
    fd = armed(multiplexer, ours, READ)
    ours.close()
    theirs.send(b"x")
    assert ready(multiplexer) == {}
    with pytest.raises(FileNotFoundError):
        multiplexer._change(fd, WRITE)
    assert ready(multiplexer) == {}
    with pytest.raises(ConnectionResetError):
        theirs.recv(1)


def test_the_end_of_the_multiplexer_lets_go_of_files(connected: Connected) -> None:
    ours, theirs = connected()
    with closing(multiplexers.create("io_uring")) as another:
        armed(another, ours, READ)
        ours.close()
    # The kernel tears a ring down in the background.
    theirs.setblocking(True)
    theirs.settimeout(30)
    assert theirs.recv(1) == b""


@pytest.mark.parametrize("first", [READ, WRITE])
def test_an_old_answer_never_meets_a_new_watch(
    multiplexer: Selector, connected: Connected, first: int
) -> None:
    """Of the same number: the answer not taken yet, or told of before the drop."""
    old, sender = connected()
    new, _ = connected()
    fd = old.fileno()
    multiplexer._add(fd, first)
    ready(multiplexer)
    sender.send(b"x")
    multiplexer._drop(fd)
    os.dup2(new.fileno(), fd)
    multiplexer._add(fd, READ)
    for _ in range(3):
        assert ready(multiplexer) == {}
    with pytest.raises(ConnectionResetError):  # the byte was not read
        sender.recv(1)


def test_a_change_takes_the_file_that_has_the_number_now(
    multiplexer: Selector, connected: Connected
) -> None:
    old, old_peer = connected()
    new, new_peer = connected()
    fd = armed(multiplexer, old, READ)
    os.dup2(new.fileno(), fd)
    multiplexer._change(fd, READ)
    assert ready(multiplexer) == {}
    assert at_its_end(old_peer)
    new_peer.send(b"x")
    assert ready(multiplexer) == {fd: READ}


def test_many_changes_between_two_waits(multiplexer: Selector, connected: Connected) -> None:
    """More than the ring of requests has room for."""
    ours, theirs = connected()
    fd = armed(multiplexer, ours, READ)
    theirs.send(b"x")
    for _ in range(3 * REQUESTS):
        multiplexer._change(fd, WRITE)
        multiplexer._change(fd, READ)
        ready(multiplexer)
        multiplexer._drop(fd)
        multiplexer._add(fd, READ)
    assert next_ready(multiplexer) == {fd: READ}


def test_watches_that_come_and_go_between_two_waits(
    multiplexer: Selector, connected: Connected
) -> None:
    """Each leaves an answer that nobody needs: more of them than the ring has room for."""
    ours, theirs = connected()
    fd = armed(multiplexer, ours, READ)
    waits = multiplexer.statistics()["waits"]
    waiter = threading.Thread(target=next_ready, args=(multiplexer,))
    waiter.start()
    while multiplexer.statistics()["waits"] == waits:
        os.sched_yield()
    for _ in range(2 * ANSWERS):  # while a thread waits, requests are made at once
        multiplexer._add(theirs.fileno(), READ)
        multiplexer._drop(theirs.fileno())
    theirs.send(b"x")
    waiter.join()
    assert next_ready(multiplexer) == {fd: READ}
    ours.recv(1)
    assert ready(multiplexer) == {}


@pytest.mark.timeout(120)
def test_more_answers_than_there_is_room_for(multiplexer: Selector) -> None:
    count = ANSWERS + 500
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= hard < count + 100:
        pytest.skip(f"the descriptor limit is {hard}")
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 100), hard))
    reader, writer = os.pipe()
    fds = [reader]
    try:
        fds += [os.dup(reader) for _ in range(count)]
        for fd in fds:
            multiplexer._add(fd, READ)
        assert ready(multiplexer) == {}
        os.write(writer, b"x")
        found: dict[int, int] = {}
        while len(found) < len(fds):
            found |= next_ready(multiplexer)
        os.read(reader, 1)
        assert ready(multiplexer) == {}
        os.write(writer, b"x")
        while len(next_ready(multiplexer)) < len(fds):
            pass
    finally:
        for fd in fds:
            multiplexer._drop(fd)
            os.close(fd)
        os.close(writer)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_nothing_new_costs_no_system_call(multiplexer: Selector, connected: Connected) -> None:
    """The rings say so: a wait of no length on a ring that was closed under it does not notice."""
    ours, theirs = connected()
    fd = armed(multiplexer, ours, READ)
    [ring] = [
        int(name)
        for name in os.listdir("/proc/self/fd")
        if "io_uring" in target(f"/proc/self/fd/{name}")
    ]
    kept = os.dup(ring)
    try:
        os.close(ring)
        assert ready(multiplexer) == {}
        os.dup2(kept, ring)
    finally:
        os.close(kept)
    theirs.send(b"x")
    assert ready(multiplexer) == {fd: READ}


def target(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def test_watches_outlive_the_thread_that_waited_first(
    multiplexer: Selector, connected: Connected
) -> None:
    """Requests are their thread's; the kernel ends them with it."""
    ours, theirs = connected()
    thread = threading.Thread(target=armed, args=(multiplexer, ours, READ))
    thread.start()
    thread.join()
    sender = threading.Thread(target=theirs.send, args=(b"x",))
    sender.start()
    assert next_ready(multiplexer) == {ours.fileno(): READ}
    sender.join()


def test_what_another_thread_adds_and_drops_ends_or_outlasts_the_wait(
    multiplexer: Selector, connected: Connected
) -> None:
    quiet, _ = connected()
    ours, theirs = connected()
    gone, gone_peer = connected()
    fd = armed(multiplexer, quiet, READ)
    multiplexer._add(gone.fileno(), READ)
    found: list[dict[int, int]] = []

    def wait() -> None:
        found.append(next_ready(multiplexer))

    before = multiplexer.statistics()["waits"]
    thread = threading.Thread(target=wait)
    thread.start()
    while multiplexer.statistics()["waits"] == before:
        os.sched_yield()
    multiplexer._drop(gone.fileno())
    gone.close()
    multiplexer._drop(fd)
    theirs.send(b"x")
    multiplexer._add(ours.fileno(), READ)
    thread.join()
    assert found == [{ours.fileno(): READ}]
    assert at_its_end(gone_peer)


def test_released_while_another_thread_waits(multiplexer: Selector, connected: Connected) -> None:
    ours, theirs = connected()
    multiplexer._add(ours.fileno(), READ)
    ended: list[object] = []
    thread = threading.Thread(target=lambda: ended.append(multiplexer._wait(-1, 0)))
    thread.start()
    while multiplexer.statistics()["waits"] == 0:
        os.sched_yield()
    multiplexer._release()
    with pytest.raises(ValueError, match="closed"):
        multiplexer._add(theirs.fileno(), READ)
    theirs.send(b"x")
    thread.join()
    assert ended == [[(ours.fileno(), READ)]]


FORK = """
import os, socket
from neverblock import multiplexers

def rings():
    return ["[io_uring]" in line for line in open("/proc/self/maps")].count(True)

before = rings()
ours, theirs = socket.socketpair()
told, tell = os.pipe()
watched = multiplexers.create("io_uring")
watched._add(ours.fileno(), 1)
assert watched._wait(0, 0) == []
if (pid := os.fork()) == 0:
    watched._release()
    assert rings() == before
    ours.close()
    theirs.close()
    os.close(tell)
    os.read(told, 1)  # until the parent is done, with whatever it holds still
    os._exit(7)
theirs.send(b"x")
assert watched._wait(-1, 0) == [(ours.fileno(), 1)]
watched._drop(ours.fileno())
ours.close()
theirs.settimeout(30)
try:
    assert theirs.recv(1) == b""
except ConnectionResetError:  # the byte was not read
    pass
os.close(tell)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
"""


def test_a_forked_child_keeps_neither_ring_nor_files() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True)


#: Has the kernel refuse io_uring_setup, as a sandbox would: by seccomp(2) and a filter in BPF.
REFUSED = """
import ctypes, errno, struct, sys
from neverblock import Loop, multiplexers

def instruction(code, yes, no, value):
    return struct.pack("HBBI", code, yes, no, value)

program = b"".join([
    instruction(0x20, 0, 0, 0),  # the number of the call
    instruction(0x15, 0, 1, 425),  # io_uring_setup?
    instruction(0x06, 0, 0, 0x00050000 | int(sys.argv[1])),  # answer that error
    instruction(0x06, 0, 0, 0x7FFF0000),  # allow
])
kept = ctypes.create_string_buffer(program)
head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(kept))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.create_string_buffer(head)) == 0, ctypes.get_errno()
print(multiplexers.available()["io_uring"])
print(multiplexers.default()[0])
try:
    Loop(backend="io_uring")
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errno.EPERM, "forbidden by the system (sysctl kernel.io_uring_disabled) or by a sandbox"),
        (errno.ENOSYS, "this kernel has no io_uring"),
        (errno.EINVAL, "needs Linux 5.19"),
    ],
)
def test_why_it_cannot_be_used(error: int, told: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", REFUSED, str(error)], capture_output=True, text=True, check=True
    )
    reason, default, refusal = ended.stdout.splitlines()
    assert told in reason
    assert default == "epoll"
    assert refusal == f'backend "io_uring": {reason}; use one of epoll, poll, select'


#: Has the kernel refuse to map its rings, which are shared and populated at once.
UNMAPPED = REFUSED.replace(
    """    instruction(0x15, 0, 1, 425),  # io_uring_setup?\n""",
    """\
    instruction(0x15, 0, 3, {"x86_64": 9, "aarch64": 222}[os.uname().machine]),  # mmap?
    instruction(0x20, 0, 0, 16 + 8 * 3),  # its flags, of little endian the lower half
    instruction(0x15, 0, 1, 0x8001),  # MAP_SHARED | MAP_POPULATE?
""",
).replace("import ctypes, errno,", "import ctypes, errno, os,")


@pytest.mark.parametrize("error", [errno.EPERM, errno.EINVAL, errno.ENOMEM])
def test_rings_that_cannot_be_mapped_say_nothing_of_the_kernel(error: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", UNMAPPED, str(error)], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[0] == str(OSError(error, os.strerror(error)))


def test_out_of_descriptors_is_not_a_reason() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            multiplexers.available()
        with pytest.raises(OSError, match="Too many open files"):
            multiplexers.IoUring()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
