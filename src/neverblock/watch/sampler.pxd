# Stacks of threads, without the GIL. The rules are in sampler.pyx.

# Bytes written to `into`, which ends with a zero: 0 where there is no stack to be had.
cdef int dump_of(int thread, char *into, int room, int milliseconds) noexcept nogil
cdef int own_thread() noexcept nogil
