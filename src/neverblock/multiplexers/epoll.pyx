# The multiplexer over epoll(7): the kernel keeps the table, so a wait costs what is ready.
#
# - Level-triggered.
# - The epoll descriptor is ours, close-on-exec. A forked child shares the kernel's table
#   behind it with its parent: the child may close its copy (release), never change a watch.
# - The mask asked for travels in the event beside the descriptor: nothing is looked up.

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport EBADF, EINTR, EINVAL, ENOENT, ENOSYS, EPERM, errno
from libc.math cimport ceil
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.time cimport timespec
from posix.unistd cimport close

from neverblock.multiplexers.base cimport (
    READ, WRITE, Multiplexer, awake, check, enter, fail, fall_asleep, interval, reserve,
)
from neverblock.multiplexers.selector import Selector

cdef extern from "sys/epoll.h" nogil:
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
        EPOLLIN
        EPOLLOUT

    ctypedef union epoll_data_t:
        uint64_t u64

    struct epoll_event:
        uint32_t events
        epoll_data_t data

    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

# By number: the C library learned epoll_pwait2 later than the kernel (5.11).
cdef extern from * nogil:
    """
    #include <errno.h>
    #include <stdint.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    struct neverblock_timespec { int64_t seconds, nanoseconds; };

    static int neverblock_epoll_pwait2(int epfd, struct epoll_event *events, int maxevents,
                                       const struct neverblock_timespec *timeout) {
    #ifdef SYS_epoll_pwait2
        return (int) syscall(SYS_epoll_pwait2, epfd, events, maxevents, timeout, NULL, 0);
    #else
        errno = ENOSYS;
        return -1;
    #endif
    }
    """
    struct neverblock_timespec:
        int64_t seconds
        int64_t nanoseconds

    int neverblock_epoll_pwait2(int epfd, epoll_event *events, int maxevents,
                                const neverblock_timespec *timeout)

cdef enum:
    # Events in one wait at most: the kernel hands out the rest first next time.
    MOST_ROOM = 4096

# Whether this process may call epoll_pwait2: asked once, by calling it.
cdef bint has_pwait2 = True


cdef int wait_for(int epfd, epoll_event *events, int room, double timeout) noexcept nogil:
    """epoll_wait(2) to the nanosecond where the kernel can, else to the millisecond."""
    global has_pwait2
    cdef neverblock_timespec kernel
    cdef timespec spec
    cdef double milliseconds
    cdef int count
    if timeout == 0:
        return epoll_wait(epfd, events, room, 0)
    if interval(timeout, &spec) is NULL:
        return epoll_wait(epfd, events, room, -1)
    if has_pwait2:
        kernel.seconds = spec.tv_sec
        kernel.nanoseconds = spec.tv_nsec
        count = neverblock_epoll_pwait2(epfd, events, room, &kernel)
        # A sandbox that does not know the call may answer EPERM, which epoll never does.
        if count >= 0 or (errno != ENOSYS and errno != EPERM):
            return count
        has_pwait2 = False
    milliseconds = ceil(timeout * 1e3)
    return epoll_wait(epfd, events, room, <int> min(milliseconds, 2147483647.0))


cdef class EpollMultiplexer(Multiplexer):
    cdef int epfd
    cdef epoll_event *found
    cdef Py_ssize_t room        # of `found`
    cdef Py_ssize_t watched     # how many descriptors, but for those closed unseen

    def __cinit__(self):
        self.epfd = -1
        self.epfd = epoll_create1(EPOLL_CLOEXEC)
        if self.epfd < 0:
            fail(errno)

    def __dealloc__(self):
        self.release()
        PyMem_Free(self.found)

    cdef int control(self, int operation, int fd, int mask) except -1:
        cdef epoll_event event
        check(self, fd, mask)
        event.events = (EPOLLIN if mask & READ else 0) | (EPOLLOUT if mask & WRITE else 0)
        event.data.u64 = <uint64_t> fd | (<uint64_t> mask << 32)
        self.handed_in += 1
        if epoll_ctl(self.epfd, operation, fd, &event) < 0:
            fail(errno)
        return 0

    cdef int add(self, int fd, int mask) except -1:
        self.control(EPOLL_CTL_ADD, fd, mask)
        self.watched += 1
        return 0

    cdef int change(self, int fd, int mask) except -1:
        return self.control(EPOLL_CTL_MOD, fd, mask)

    cdef int drop(self, int fd) except -1:
        cdef epoll_event event      # unused, but old kernels want one
        if self.closed:
            return 0
        self.handed_in += 1
        if epoll_ctl(self.epfd, EPOLL_CTL_DEL, fd, &event) < 0:
            # The kernel forgets a descriptor by itself when its owner closes it. The number may be
            # free by now, another's, a file's that cannot be watched, or our own.
            if errno not in (EBADF, ENOENT, EPERM, EINVAL):
                fail(errno)
        if self.watched:
            self.watched -= 1
        return 0

    cdef int make_room(self) except -1:
        cdef epoll_event *found
        if self.capacity < self.watched:        # all may be ready at once
            reserve(self, min(max(self.watched, self.capacity * 2), MOST_ROOM))
        if self.room < self.capacity:
            found = <epoll_event *> PyMem_Realloc(self.found, self.capacity * sizeof(epoll_event))
            if found is NULL:
                raise MemoryError
            self.found = found
            self.room = self.capacity
        return 0

    cdef int wait(self, double timeout) except -1:
        cdef int i, count, error, got, asked
        cdef uint64_t packed
        if not self.waiting:
            self.make_room()
        enter(self)
        with nogil:
            fall_asleep(self)
            count = wait_for(self.epfd, self.found, <int> self.room, timeout)
            error = errno
            awake(self)
        self.waiting = False
        if count < 0:
            return 0 if error == EINTR else fail(error)
        for i in range(count):
            packed = self.found[i].data.u64
            asked = <int> (packed >> 32)
            # Hang-up and error wake both sides, as in the standard library's selectors.
            got = 0
            if self.found[i].events & ~(<uint32_t> EPOLLOUT):
                got = READ
            if self.found[i].events & ~(<uint32_t> EPOLLIN):
                got |= WRITE
            # By a cast: a mask this wide would be a Python object.
            self.events[i].fd = <int> <uint32_t> packed
            self.events[i].mask = got & asked
        self.looked_at += count
        self.events_out += count
        return count

    cdef int release(self) except -1:
        # Closes this process's descriptor alone, so it is right in a forked child as well.
        cdef int fd = self.epfd
        self.closed = True
        self.epfd = -1
        if fd >= 0:
            close(fd)
        return 0

    def fileno(self):
        """The epoll descriptor itself: readable when a watched descriptor is ready.

        Raises ValueError after close().
        """
        if self.closed:
            raise ValueError("the multiplexer is closed")
        return self.epfd


class Epoll(EpollMultiplexer, Selector):
    """epoll(7) as a ``selectors.BaseSelector``: Linux, any number of descriptors."""
