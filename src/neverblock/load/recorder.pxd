# Counts of times by size: an HDR histogram's counts, as plain C.

cdef class Recorder:
    cdef long long *counts
    cdef readonly long long total

    cdef void record(self, long long nanoseconds) noexcept


# Nanoseconds of the monotonic clock, which all processes of a machine share (clock_gettime(2)).
cdef long long clock() noexcept nogil
