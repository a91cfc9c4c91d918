# What every protocol's client is made of: see client.pyx.

from neverblock.load.recorder cimport Recorder


cdef class Meter:
    cdef readonly Recorder latency
    cdef readonly Recorder late
    cdef readonly long long answered
    cdef readonly long long total
    cdef readonly long long sent
    cdef readonly long long received
    cdef readonly dict errors
    cdef readonly dict examples
    cdef readonly long long failures
    cdef readonly bint started
    cdef readonly long long opens
    cdef readonly long long closes
    cdef long long began
    cdef double rate            # requests a nanosecond, of all processes; 0: closed loop
    cdef double ramp            # nanoseconds
    cdef double first           # the number of this process's first request among all
    cdef double step            # processes
    cdef long long number       # of the next request of this process
    cdef long long next_due
    cdef object waiting
    cdef object call_at
    cdef object ticking
    cdef bint armed
    cdef list answered_now      # clients that had an answer in this turn of the loop
    cdef object call_soon
    cdef object going_on

    cdef long long take(self, long long now) noexcept
    cdef long long due_of(self, long long number) noexcept
    cdef void record(self, long long due, long long now) noexcept
    cdef int rest(self, Client client) except -1
    cdef int soon(self, Client client) except -1


cdef class Client:
    cdef Meter meter
    cdef object keeper          # told when it is over: lost(client)
    cdef object transport
    cdef object write
    cdef long long *dues        # a ring, `depth` long: when what is in flight was due
    cdef int depth
    cdef int head
    cdef readonly int in_flight
    cdef readonly bint alive
    cdef bint gone              # let go of, perhaps before it was there
    cdef bint resting
    cdef bint queued            # to send when all answers have been read
    cdef bint last              # the server has said that it will close
    cdef readonly long long answers
    cdef long long since        # of the last answer, or of the oldest request after none

    cdef int fill(self, long long now, bint rested) except -1
    cdef bytes requests(self, int count)
    cdef bint consume(self, const char *data, Py_ssize_t size, long long now) except -1
    cdef bint ended(self, long long now) except -1
    cdef long long pop(self, long long now) noexcept
    cdef int right(self, long long now) except -1
    cdef int refused(self, long long now, str kind, str detail) except -1
    cdef bint wrong(self, str detail) except -1
    cdef int over(self, str kind, str detail) except -1
