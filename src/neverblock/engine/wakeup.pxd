# Ends a wait from another thread. The rules are in wakeup.pyx.


cdef class Wakeup:
    cdef int listener           # ready to be read when there was a wake-up
    cdef int fd                 # what is written to: the same, where it is an eventfd
    cdef int writers            # threads between giving up the GIL and having it back
    cdef bint closed

    cdef int wake(self) except -1
    cdef int hear(self) except -1
    cdef int close(self) except -1
    cdef int close_descriptors(self) noexcept
