# The driver over any multiplexer. The rules are in readiness.pyx.

from neverblock.engine.driver cimport Driver, Endpoint
from neverblock.engine.sources cimport Sources


cdef class Readiness(Driver):
    cdef Sources sources
    cdef char *scratch          # where bytes are received that have no place of their own
    cdef list outbox            # endpoints that have something to send
    cdef list batch             # those of the flush that is under way; None: none is
    cdef Py_ssize_t done        # how many of them it has begun
    cdef list spare             # what becomes the outbox in the next flush

    cdef int in_context(self, Endpoint endpoint, int events) except -1
    cdef int receive(self, Endpoint endpoint) except -1
    cdef int transmit(self, Endpoint endpoint) except -1
    cdef int set_blocked(self, Endpoint endpoint, bint blocked) except -1
