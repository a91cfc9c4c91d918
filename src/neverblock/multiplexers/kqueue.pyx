# The multiplexer over kqueue(2): the kernel keeps the table, one entry per descriptor and side.
#
# - Reading and writing are two filters, so a descriptor ready for both comes as two events.
# - The masks are kept here too: the kernel neither refuses a second EV_ADD nor tells which
#   filters there are.
# - A kqueue is not inherited by fork(2): in a child its number is free for others to use.

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport EBADF, EEXIST, EINTR, ENOENT, errno
from libc.stdint cimport uintptr_t
from posix.fcntl cimport F_SETFD, FD_CLOEXEC, fcntl
from posix.time cimport timespec
from posix.unistd cimport close, getpid

from neverblock.multiplexers.base cimport (
    READ, WRITE, Multiplexer, awake, check, enter, fail, fall_asleep, interval, reserve,
)
from neverblock.multiplexers.selector import Selector
from neverblock.multiplexers.table cimport Table, table_free, table_get, table_put

cdef extern from "sys/event.h" nogil:
    """
    #include <stdint.h>
    #include <sys/event.h>

    static int neverblock_kevent_change(int queue, int fd, int filter, int flags) {
        struct kevent change;
        EV_SET(&change, (uintptr_t) fd, filter, flags, 0, 0, 0);
        return kevent(queue, &change, 1, NULL, 0, NULL);
    }
    """
    enum:
        EV_ADD
        EV_DELETE
        EVFILT_READ
        EVFILT_WRITE

    ctypedef struct kernel_event "struct kevent":
        uintptr_t ident
        short filter

    int kqueue()
    int kevent(int queue, const kernel_event *changes, int change_count,
               kernel_event *events, int event_count, const timespec *timeout)
    int neverblock_kevent_change(int queue, int fd, int filter, int flags)


cdef enum:
    # The array grows to this by itself: the kernel hands out the rest first next time.
    MOST_ROOM = 4096


cdef class KqueueMultiplexer(Multiplexer):
    cdef int queue
    cdef int owner              # the process whose kqueue it is
    cdef Table masks
    cdef kernel_event *found
    cdef Py_ssize_t room        # of `found`
    cdef bint full              # the last wait filled the array: there may be more

    def __cinit__(self):
        self.queue = -1
        self.owner = getpid()
        self.queue = kqueue()
        if self.queue < 0 or fcntl(self.queue, F_SETFD, FD_CLOEXEC) < 0:
            fail(errno)

    def __dealloc__(self):
        self.release()
        PyMem_Free(self.found)
        table_free(&self.masks)

    # Adds or deletes the kernel's filter of one side; `masks` says at any time which there are.
    # The kernel forgets a descriptor by itself when its owner closes it: drop is `lenient`.
    cdef int control(self, int fd, int side, bint wanted, bint lenient=False) except -1:
        cdef int filter = EVFILT_READ if side == READ else EVFILT_WRITE
        cdef int mask = table_get(&self.masks, fd)
        if wanted == ((mask & side) != 0):
            return 0
        self.handed_in += 1
        if neverblock_kevent_change(self.queue, fd, filter, EV_ADD if wanted else EV_DELETE) < 0:
            if not lenient or (errno != EBADF and errno != ENOENT):
                fail(errno)
        return table_put(&self.masks, fd, mask ^ side)

    cdef int add(self, int fd, int mask) except -1:
        check(self, fd, mask)
        if table_get(&self.masks, fd):
            fail(EEXIST)
        try:
            self.control(fd, READ, mask & READ)
            self.control(fd, WRITE, mask & WRITE)
        except BaseException:
            self.drop(fd)
            raise
        return 0

    cdef int change(self, int fd, int mask) except -1:
        check(self, fd, mask)
        if not table_get(&self.masks, fd):
            fail(ENOENT)
        self.control(fd, READ, mask & READ)
        self.control(fd, WRITE, mask & WRITE)
        return 0

    cdef int drop(self, int fd) except -1:
        if not self.closed:
            self.control(fd, READ, False, lenient=True)
            self.control(fd, WRITE, False, lenient=True)
        return 0

    cdef int make_room(self) except -1:
        cdef kernel_event *found
        if self.full:
            reserve(self, min(self.capacity * 2, MOST_ROOM))
        if self.room < self.capacity:
            found = <kernel_event *> PyMem_Realloc(
                self.found, self.capacity * sizeof(kernel_event)
            )
            if found is NULL:
                raise MemoryError
            self.found = found
            self.room = self.capacity
        return 0

    cdef int wait(self, double timeout) except -1:
        cdef timespec spec
        cdef timespec *end = interval(timeout, &spec)
        cdef int i, count, error
        if not self.waiting:
            self.make_room()
        enter(self)
        with nogil:
            fall_asleep(self)
            count = kevent(self.queue, NULL, 0, self.found, <int> self.room, end)
            error = errno
            awake(self)
        self.waiting = False
        if count < 0:
            return 0 if error == EINTR else fail(error)
        self.full = count == self.room
        for i in range(count):
            self.events[i].fd = <int> self.found[i].ident
            self.events[i].mask = READ if self.found[i].filter == EVFILT_READ else WRITE
        self.looked_at += count
        self.events_out += count
        return count

    cdef int release(self) except -1:
        cdef int queue = self.queue
        self.closed = True
        self.queue = -1
        if queue >= 0 and self.owner == getpid():
            close(queue)
        return 0

    def fileno(self):
        """The kqueue descriptor itself; ValueError after close()."""
        if self.closed:
            raise ValueError("the multiplexer is closed")
        return self.queue


class Kqueue(KqueueMultiplexer, Selector):
    """kqueue(2) as a ``selectors.BaseSelector``: BSD and macOS, any number of descriptors."""
