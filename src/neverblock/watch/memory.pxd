# Reads memory that may not be there. The rules are in memory.pyx.

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

# Whether all `count` pieces could be read, each into its own place.
cdef bint gather(iovec *into, iovec *pieces, int count) noexcept nogil
cdef bint fetch(void *into, const void *place, size_t size) noexcept nogil
