"""Counts of times by size: an HDR histogram's counts, as plain C.

- The buckets are those of hdrhistogram with a lowest value of 1, nanoseconds here, and 3
  significant figures, so that pouring them over loses nothing. Percentiles are that package's work.
- Recording allocates nothing and cannot fail: what is below 0 counts as 0, what is beyond the
  longest as the longest.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from *:
    int __builtin_clzll(unsigned long long value) noexcept nogil

# Also of LONGEST and FIGURES in histogram.py, and what follows from them.
cdef enum:
    HALF_BITS = 10              # 1024 counts to each power of two: 3 figures
    HALF = 1 << HALF_BITS
    BUCKETS = 32
    LENGTH = (BUCKETS + 1) * HALF

cdef long long LONGEST = 3600 * 1000000000


cdef long long clock() noexcept nogil:
    cdef timespec moment
    clock_gettime(CLOCK_MONOTONIC, &moment)
    return <long long> moment.tv_sec * 1000000000 + moment.tv_nsec


def nanoseconds():
    """Now, on the monotonic clock, which all processes of a machine share (clock_gettime(2))."""
    return clock()


cdef class Recorder:
    """Counts times, in nanoseconds."""

    def __cinit__(self):
        self.counts = <long long *> PyMem_Calloc(LENGTH, sizeof(long long))
        if self.counts is NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.counts)

    cdef void record(self, long long nanoseconds) noexcept:
        cdef int bucket
        cdef long long value = min(max(nanoseconds, 0), LONGEST)
        bucket = 63 - __builtin_clzll(value | (2 * HALF - 1)) - HALF_BITS
        self.counts[((bucket + 1) << HALF_BITS) + (value >> bucket) - HALF] += 1
        self.total += 1

    def add(self, long long nanoseconds):
        """Count a time."""
        self.record(nanoseconds)

    def recorded(self):
        """(lowest time, count) of each bucket that has any, in order."""
        cdef int i, bucket
        found = []
        for i in range(LENGTH):
            if self.counts[i]:
                bucket = max((i >> HALF_BITS) - 1, 0)
                found.append((
                    (<long long> (i - (bucket << HALF_BITS))) << bucket, self.counts[i]))
        return found
