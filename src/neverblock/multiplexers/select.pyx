# The multiplexer over select(2): two bit sets, copied to the kernel and back at every wait.
#
# - Descriptors from FD_SETSIZE (1024) up do not fit: add() refuses them.
# - The kernel is given copies, so watches may change during a wait.

from libc.errno cimport EBADF, EEXIST, EINTR, ENOENT, errno
from posix.fcntl cimport F_GETFD, fcntl
from posix.select cimport FD_CLR, FD_ISSET, FD_SET, FD_SETSIZE, FD_ZERO, fd_set, pselect
from posix.time cimport timespec

from neverblock.errors import DescriptorLimitError
from neverblock.multiplexers.base cimport (
    READ, WRITE, Multiplexer, awake, check, check_open, enter, fail, fall_asleep, interval,
    reserve,
)
from neverblock.multiplexers.selector import Selector


cdef struct Sets:
    fd_set reads
    fd_set writes


cdef class SelectMultiplexer(Multiplexer):
    cdef Sets watched
    cdef int count, highest         # watched descriptors; -1: none

    def __cinit__(self):
        self.limit = FD_SETSIZE
        self.highest = -1
        reserve(self, FD_SETSIZE)
        FD_ZERO(&self.watched.reads)
        FD_ZERO(&self.watched.writes)

    cdef int add(self, int fd, int mask) except -1:
        check(self, fd, mask)
        if fd >= FD_SETSIZE:
            raise DescriptorLimitError("select", fd, FD_SETSIZE)
        if mask_in(&self.watched, fd):
            fail(EEXIST)
        check_open(fd)
        put(&self.watched, fd, mask)
        self.count += 1
        self.highest = max(self.highest, fd)
        return 0

    cdef int change(self, int fd, int mask) except -1:
        check(self, fd, mask)
        if not mask_in(&self.watched, fd):
            fail(ENOENT)
        put(&self.watched, fd, mask)
        return 0

    cdef int drop(self, int fd) except -1:
        if not mask_in(&self.watched, fd):
            return 0
        put(&self.watched, fd, 0)
        self.count -= 1
        while self.highest >= 0 and not mask_in(&self.watched, self.highest):
            self.highest -= 1
        return 0

    cdef int wait(self, double timeout) except -1:
        cdef Sets sets
        cdef timespec spec
        cdef timespec *end = interval(timeout, &spec)
        cdef int found, error, highest = self.highest
        enter(self)
        self.handed_in += self.count
        sets = self.watched
        with nogil:
            fall_asleep(self)
            found = pselect(highest + 1, &sets.reads, &sets.writes, NULL, end, NULL)
            error = errno
            awake(self)
        self.waiting = False
        if found < 0:
            if error == EBADF:
                return self.wait_past_closed(highest)
            return 0 if error == EINTR else fail(error)
        return self.collect(&sets, highest) if found else 0

    # One descriptor that its owner closed without drop() makes select fail as a whole, with
    # EBADF and not a word on which one it was. Raising it would stop every other connection,
    # at every wait, for the mistake of one. So the closed ones are looked for, each by the
    # cheapest call that takes a descriptor; they are reported ready to whoever asked, as poll
    # does with POLLNVAL, and their owner's next call on them fails where it is to blame. The
    # others are asked for again without waiting, so that nobody starves beside a closed one.
    cdef int wait_past_closed(self, int highest) except -1:
        cdef Sets sets = self.watched, closed
        cdef timespec now
        cdef int fd, mask
        FD_ZERO(&closed.reads)
        FD_ZERO(&closed.writes)
        for fd in range(highest + 1):
            mask = mask_in(&sets, fd)
            if mask and fcntl(fd, F_GETFD) < 0:
                put(&closed, fd, mask)
                put(&sets, fd, 0)
        now.tv_sec = now.tv_nsec = 0
        self.waits += 1
        self.handed_in += self.count
        if pselect(highest + 1, &sets.reads, &sets.writes, NULL, &now, NULL) < 0:
            # Yet another was closed meanwhile, or a signal came: the next wait sees to it.
            FD_ZERO(&sets.reads)
            FD_ZERO(&sets.writes)
        for fd in range(highest + 1):
            mask = mask_in(&closed, fd)
            if mask:
                put(&sets, fd, mask)
        return self.collect(&sets, highest)

    cdef int collect(self, Sets *ready, int highest) noexcept:
        cdef int fd, mask, count = 0
        for fd in range(highest + 1):
            mask = mask_in(ready, fd)
            if mask:
                self.events[count].fd = fd
                self.events[count].mask = mask
                count += 1
        self.looked_at += highest + 1
        self.events_out += count
        return count


cdef int mask_in(Sets *sets, int fd) noexcept:
    if not 0 <= fd < FD_SETSIZE:
        return 0
    return ((READ if FD_ISSET(fd, &sets.reads) else 0)
            | (WRITE if FD_ISSET(fd, &sets.writes) else 0))


cdef void put(Sets *sets, int fd, int mask) noexcept:
    FD_CLR(fd, &sets.reads)
    FD_CLR(fd, &sets.writes)
    if mask & READ:
        FD_SET(fd, &sets.reads)
    if mask & WRITE:
        FD_SET(fd, &sets.writes)


class Select(SelectMultiplexer, Selector):
    """select(2) as a ``selectors.BaseSelector``: POSIX, descriptors 0 to 1023 only."""
