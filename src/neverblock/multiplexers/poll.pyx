# The multiplexer over poll(2): one dense array, all of it handed to the kernel at every wait.
#
# - The array has no holes: dropping moves the last entry into the place that became free.
# - The kernel reads and writes the array without the GIL, so nothing may move during a wait.
# - A descriptor closed by its owner before drop() is reported ready (POLLNVAL) at every wait,
#   as the standard library's PollSelector does: its owner's next call on it then fails.

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport EEXIST, EINTR, ENOENT, errno
from posix.time cimport timespec

from neverblock.multiplexers.base cimport (
    READ, WRITE, Multiplexer, awake, check, check_open, enter, fail, fall_asleep, interval,
    reserve,
)
from neverblock.multiplexers.selector import Selector
from neverblock.multiplexers.table cimport Table, table_free, table_get, table_put

cdef extern from *:
    """
    #include <limits.h>
    #include <poll.h>

    #ifdef __APPLE__    /* has no ppoll: milliseconds then, rounded up */
    static int neverblock_poll(struct pollfd *fds, nfds_t count, const struct timespec *end) {
        long milliseconds = -1;
        if (end != NULL) {
            milliseconds = end->tv_sec < INT_MAX / 1000 - 1
                ? end->tv_sec * 1000 + (end->tv_nsec + 999999) / 1000000 : INT_MAX;
        }
        return poll(fds, count, (int) milliseconds);
    }
    #else
    static int neverblock_poll(struct pollfd *fds, nfds_t count, const struct timespec *end) {
        return ppoll(fds, count, end, NULL);
    }
    #endif
    """
    enum:
        POLLIN
        POLLOUT

    ctypedef unsigned long nfds_t

    struct pollfd:
        int fd
        short events
        short revents

    int neverblock_poll(pollfd *fds, nfds_t count, const timespec *end) nogil


cdef class PollMultiplexer(Multiplexer):
    cdef pollfd *watched
    cdef int count, room
    cdef Table places           # descriptor -> its place in `watched`, plus 1

    def __dealloc__(self):
        PyMem_Free(self.watched)
        table_free(&self.places)

    cdef int check_still(self) except -1:
        if self.waiting:
            raise RuntimeError(
                "poll waits in another thread: change watches in that thread "
                "(loop.call_soon_threadsafe)"
            )
        return 0

    cdef int add(self, int fd, int mask) except -1:
        cdef int room
        cdef pollfd *watched
        check(self, fd, mask)
        self.check_still()
        if table_get(&self.places, fd):
            fail(EEXIST)
        check_open(fd)
        if self.count == self.room:
            room = max(64, self.room * 2)
            watched = <pollfd *> PyMem_Realloc(self.watched, room * sizeof(pollfd))
            if watched is NULL:
                raise MemoryError
            self.watched = watched
            self.room = room
        table_put(&self.places, fd, self.count + 1)
        self.watched[self.count].fd = fd
        self.watched[self.count].events = to_poll(mask)
        self.watched[self.count].revents = 0
        self.count += 1
        return 0

    cdef int change(self, int fd, int mask) except -1:
        cdef int place
        check(self, fd, mask)
        self.check_still()
        place = table_get(&self.places, fd)
        if not place:
            fail(ENOENT)
        self.watched[place - 1].events = to_poll(mask)
        return 0

    cdef int drop(self, int fd) except -1:
        cdef int place
        self.check_still()
        place = table_get(&self.places, fd)
        if not place:
            return 0
        self.count -= 1
        # In this order: the last may be the one that is dropped.
        self.watched[place - 1] = self.watched[self.count]
        self.places.slots[self.watched[place - 1].fd] = place
        self.places.slots[fd] = 0
        return 0

    cdef int wait(self, double timeout) except -1:
        cdef int i, left, error, events, count = 0
        cdef timespec spec
        cdef timespec *end = interval(timeout, &spec)
        cdef pollfd *one
        if not self.waiting:
            reserve(self, self.count)       # all may be ready at once
        enter(self)
        with nogil:
            fall_asleep(self)
            left = neverblock_poll(self.watched, self.count, end)
            error = errno
            awake(self)
        self.waiting = False
        self.handed_in += self.count
        if left < 0:
            return 0 if error == EINTR else fail(error)
        for i in range(self.count):
            if left == 0:
                break
            self.looked_at += 1
            one = &self.watched[i]
            if one.revents == 0:
                continue
            left -= 1
            # Hang-up, error and POLLNVAL wake both sides, kept to what was asked for.
            events = 0
            if one.revents & ~POLLOUT and one.events & POLLIN:
                events = READ
            if one.revents & ~POLLIN and one.events & POLLOUT:
                events |= WRITE
            self.events[count].fd = one.fd
            self.events[count].mask = events
            count += 1
        self.events_out += count
        return count


cdef short to_poll(int mask) noexcept:
    return (POLLIN if mask & READ else 0) | (POLLOUT if mask & WRITE else 0)


class Poll(PollMultiplexer, Selector):
    """poll(2) as a ``selectors.BaseSelector``: POSIX, any number of descriptors."""
