# Stacks of threads, without the GIL. The rules are in sampler.pyx.

from neverblock.watch.walker cimport PyThreadState, Stack

# Whether there is one. `state` is the thread's, or NULL where it is not known.
cdef bint sample(
    int thread, const PyThreadState *state, Stack *into, int milliseconds) noexcept nogil
cdef int own_thread() noexcept nogil
