# What the engine tells a watch: plain stores, no clock read. The rules are in pulse.pyx.

from cpython.object cimport PyObject

from neverblock.multiplexers.base cimport Multiplexer


cdef class Pulse:
    cdef unsigned long long turns       # begun
    cdef unsigned long long callbacks   # begun
    cdef unsigned long long others      # deliveries to transports, and handles of asyncio's
    cdef double asked                   # when the kernel was last asked, on the coarse clock
    cdef PyObject *current              # what runs: a handle or an endpoint; NULL: nothing
    cdef readonly Multiplexer multiplexer
