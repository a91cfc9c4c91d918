"""Ends a wait from another thread: an eventfd where the system has one, else a pipe.

- wake() is for any thread, hear() and close() for the loop's; all with the GIL.
- wake() gives the GIL up while it writes: the thread that it wakes wants it. So the last
  writer to come back closes the descriptors, where they were to be closed meanwhile.
"""

cimport cython
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint64_t
from posix.unistd cimport close, read, write

import os


@cython.final
cdef class Wakeup:
    """One end of it is watched by a loop, the other written to by threads."""

    def __cinit__(self):
        self.listener = self.fd = -1
        if hasattr(os, "eventfd"):
            self.listener = self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.listener, self.fd = os.pipe()
            os.set_blocking(self.listener, False)
            os.set_blocking(self.fd, False)

    def __dealloc__(self):
        if not self.closed:
            self.close_descriptors()

    cdef int wake(self) except -1:
        cdef uint64_t one = 1
        if self.closed:
            return 0
        self.writers += 1
        with nogil:
            # A full pipe is as good as one more byte in it.
            while write(self.fd, &one, sizeof(one)) < 0 and errno == EINTR:
                pass
        self.writers -= 1
        if self.closed and self.writers == 0:
            self.close_descriptors()
        return 0

    cdef int hear(self) except -1:
        cdef uint64_t[64] counts
        read(self.listener, counts, sizeof(counts))
        return 0

    cdef int close(self) except -1:  # no-cython-lint
        if not self.closed:
            self.closed = True
            if self.writers == 0:
                self.close_descriptors()
        return 0

    cdef int close_descriptors(self) noexcept:
        if self.fd != self.listener:
            close(self.fd)
        if self.listener >= 0:
            close(self.listener)
        self.fd = self.listener = -1
        return 0
