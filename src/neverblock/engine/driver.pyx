"""The two sides of the contract in driver.pxd, with nothing filled in."""


cdef class Endpoint(TransportBase):
    """A descriptor, and who answers for it: the base of every transport."""

    def __cinit__(self):
        self.fd = -1

    cdef bint holds(self) except -1:
        return True

    cdef char *reserve(self, Py_ssize_t *size) except? NULL:
        raise NotImplementedError

    cdef int received(self, const char *data, Py_ssize_t size) except -1:
        raise NotImplementedError

    cdef int outgoing(self, iovec *pieces, int limit) noexcept:
        return 0

    cdef int sent(self, Py_ssize_t size) except -1:
        raise NotImplementedError


cdef class Driver:
    """What does the reading and writing for endpoints."""

    cdef int attach(self, Endpoint endpoint) except -1:
        raise NotImplementedError

    cdef int detach(self, Endpoint endpoint) except -1:
        raise NotImplementedError

    cdef int start_receiving(self, Endpoint endpoint) except -1:
        raise NotImplementedError

    cdef int stop_receiving(self, Endpoint endpoint) except -1:
        raise NotImplementedError

    cdef int set_aside(self, Endpoint endpoint) except -1:
        raise NotImplementedError

    cdef int queue(self, Endpoint endpoint) except -1:
        raise NotImplementedError

    cdef int flush_now(self, Endpoint endpoint) except -1:
        raise NotImplementedError

    cdef Py_ssize_t send_now(self, Endpoint endpoint, const char *data, Py_ssize_t size) noexcept:
        return 0

    cdef int flush(self) except -1:
        raise NotImplementedError

    cdef int deliver(self, Endpoint endpoint) except -1:
        raise NotImplementedError
