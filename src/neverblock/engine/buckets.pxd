# Counts of values by size, in memory that is there from the start.
#
# - Values are whole numbers: nanoseconds, or lengths. Those below 16 have a bucket each; above,
#   each power of two has 8, so that a bucket is at most an eighth of its values wide.
# - What is 2 ** 40 or more (18 minutes) is in the last bucket; sum and maximum are exact.

cdef extern from *:
    int __builtin_clzll(unsigned long long value) noexcept nogil

cdef enum:
    BUCKETS = 304

cdef struct Buckets:
    unsigned long long sum
    unsigned long long most
    unsigned long long[BUCKETS] counts


cdef inline void put(Buckets *self, unsigned long long value) noexcept nogil:
    cdef int shift = 60 - __builtin_clzll(value | 8)
    cdef unsigned long long bucket = (<unsigned long long> shift << 3) + (value >> shift)
    self.counts[min(bucket, <unsigned long long> BUCKETS - 1)] += 1
    self.sum += value
    if value > self.most:
        self.most = value


cdef inline void put_seconds(Buckets *self, double seconds) noexcept nogil:
    put(self, <unsigned long long> (seconds * 1e9) if seconds > 0 else 0)
