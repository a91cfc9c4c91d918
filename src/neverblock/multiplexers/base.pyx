# What every multiplexer has: the events array, the counters, the contract seen from Python.
#
# - add, change, drop, wait and release are the engine's: C calls, no Python object made.
# - The underscored methods are the same five for Python code: selector.py builds a
#   selectors.BaseSelector on them.

from cpython.exc cimport PyErr_SetFromErrno
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.math cimport ceil, floor
cimport libc.errno
from posix.fcntl cimport F_GETFD, fcntl
from posix.time cimport timespec

cdef enum:
    FIRST_ROOM = 64

# 68 years: past any wait, and inside every time_t.
cdef double LONGEST = 2147483647.0


cdef class Multiplexer:
    """Asks the kernel which descriptors are ready.

    The base of every backend; not useful by itself. ``limit`` is the first descriptor
    that cannot be watched, -1 where there is none.
    """

    def __cinit__(self):
        self.limit = -1
        reserve(self, FIRST_ROOM)

    def __dealloc__(self):
        PyMem_Free(self.events)

    cdef int add(self, int fd, int mask) except -1:
        raise NotImplementedError

    cdef int change(self, int fd, int mask) except -1:
        raise NotImplementedError

    cdef int drop(self, int fd) except -1:
        raise NotImplementedError

    cdef int wait(self, double timeout) except -1:
        raise NotImplementedError

    cdef int release(self) except -1:
        self.closed = True
        return 0

    def statistics(self):
        """What was done so far, as counts.

        - ``waits``: how often the kernel was asked
        - ``descriptors_handed_in``: descriptors passed to the kernel, over all calls
        - ``descriptors_looked_at``: entries read to find out which of them are ready
        - ``events_out``: descriptors reported ready
        """
        return {
            "waits": self.waits,
            "descriptors_handed_in": self.handed_in,
            "descriptors_looked_at": self.looked_at,
            "events_out": self.events_out,
        }

    def _add(self, int fd, int mask):
        self.add(fd, mask)

    def _change(self, int fd, int mask):
        self.change(fd, mask)

    def _drop(self, int fd):
        self.drop(fd)

    def _wait(self, double timeout, Py_ssize_t room):
        cdef int i, count
        if not self.waiting:
            reserve(self, room)
        count = self.wait(timeout)
        return [(self.events[i].fd, self.events[i].mask) for i in range(count)]

    def _release(self):
        self.release()


cdef int check(Multiplexer self, int fd, int mask) except -1:
    if self.closed:
        raise ValueError("the multiplexer is closed")
    if fd < 0:
        raise ValueError(f"not a file descriptor: {fd}")
    if mask < READ or mask > (READ | WRITE):
        raise ValueError(f"not a mask of READ (1) and WRITE (2): {mask}")
    return 0


cdef int check_open(int fd) except -1:
    if fcntl(fd, F_GETFD) < 0:
        fail(libc.errno.errno)
    return 0


cdef int enter(Multiplexer self) except -1:
    if self.closed:
        raise ValueError("the multiplexer is closed")
    if self.waiting:
        raise RuntimeError("another thread waits on this multiplexer: give each its own")
    self.waiting = True
    self.waits += 1
    return 0


cdef int reserve(Multiplexer self, Py_ssize_t room) except -1:
    cdef Event *events
    if room > self.capacity:
        events = <Event *> PyMem_Realloc(self.events, room * sizeof(Event))
        if events is NULL:
            raise MemoryError
        self.events = events
        self.capacity = room
    return 0


cdef int fail(int error) except -1:
    libc.errno.errno = error
    PyErr_SetFromErrno(OSError)
    return -1


cdef timespec *interval(double timeout, timespec *into) noexcept nogil:
    cdef double whole, nanoseconds
    if timeout < 0:
        return NULL
    if not timeout < LONGEST:
        timeout = LONGEST
    whole = floor(timeout)
    nanoseconds = ceil((timeout - whole) * 1e9)
    if nanoseconds >= 1e9:
        whole += 1
        nanoseconds = 0
    into.tv_sec = <long> whole
    into.tv_nsec = <long> nanoseconds
    return into
