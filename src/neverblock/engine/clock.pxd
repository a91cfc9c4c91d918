# Monotonic time in seconds, as loop.time() tells it: clock_gettime(2).

from posix.time cimport clock_gettime, timespec

cdef extern from *:
    """
    #include <time.h>
    #ifdef CLOCK_MONOTONIC_COARSE
    #define NB_CLOCK_COARSE CLOCK_MONOTONIC_COARSE
    #else
    #define NB_CLOCK_COARSE CLOCK_MONOTONIC
    #endif
    """
    int CLOCK_MONOTONIC
    int NB_CLOCK_COARSE


cdef inline double seconds(int clock) noexcept nogil:
    cdef timespec moment
    clock_gettime(clock, &moment)
    return <double> moment.tv_sec + <double> moment.tv_nsec * 1e-9


cdef inline double now() noexcept nogil:
    return seconds(CLOCK_MONOTONIC)


# The kernel's last tick, at a fifth of the price: never ahead of now(), and never
# further behind it than a tick, which is 10 ms at most.
cdef inline double coarse_now() noexcept nogil:
    return seconds(NB_CLOCK_COARSE)
