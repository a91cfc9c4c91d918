# What the engine tells of its work: plain stores. The rules are in pulse.pyx.

from cpython.object cimport PyObject

from neverblock.engine.buckets cimport Buckets
from neverblock.engine.tally cimport Tally
from neverblock.multiplexers.base cimport Multiplexer

cdef extern from * nogil:
    """
    #define nb_wanted(place) __atomic_load_n(place, __ATOMIC_RELAXED)
    """
    bint nb_wanted(int *place) noexcept


cdef class Pulse:
    cdef unsigned long long turns       # begun
    cdef unsigned long long callbacks   # begun
    cdef unsigned long long others      # deliveries to transports, and handles of asyncio's
    cdef PyObject *current              # what runs: a handle or an endpoint; NULL: nothing
    cdef int wanted                     # a watch asks whose the time of this turn is
    cdef double began                   # when the kernel last answered; 0: it is being waited for
    cdef unsigned long long before      # callbacks and others when it did
    cdef Tally tally                    # None: nobody watches
    cdef Buckets turn_lengths, ready_lengths, callback_lengths, lags
    cdef readonly Multiplexer multiplexer
    cdef void *kept                     # by keep()

    cdef int end_turn(self, double moment) except -1
    cdef void go_on(self, double moment, PyObject *current) noexcept
    # Takes over memory, from malloc(3), of a watch that has ended.
    cdef void keep(self, void *memory) noexcept
