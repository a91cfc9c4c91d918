# Which turns are timed callback by callback, and since when their work waits.
# The rules are in sample.pyx.

cdef enum:
    MARKS = 128

cdef struct Mark:
    Py_ssize_t end          # work before this place in the ring…
    double time             # …was queued by a callback that began then, if not by an earlier one

cdef class Sample:
    cdef unsigned long long next    # turn that is timed next
    cdef unsigned int seed
    cdef unsigned long long marked  # turn whose marks these are; 0: none
    cdef Mark[MARKS] marks
    cdef Py_ssize_t count, reached
    # What is on the ring when a turn runs it: left over, then by other threads, then events.
    cdef Py_ssize_t carried, woken
    cdef double woken_at            # when another thread woke the loop; 0: not known

    cdef void plan(self, unsigned long long turn) noexcept
    cdef void mark(self, Py_ssize_t end, double time) noexcept
    cdef double since(self, Py_ssize_t place, double answered) noexcept
