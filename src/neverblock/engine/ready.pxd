# Work that is due: handles, the ring they wait in, and the heap of timers.
# The rules are in ready.pyx.

from cpython.object cimport PyObject


cdef class Handle:
    cdef object callback            # None: cancelled, or done with
    cdef tuple args
    cdef object context
    cdef object source_traceback    # where it was made; debug mode only
    cdef str described              # what was cancelled; debug mode only
    cdef object __weakref__
    cdef bint is_cancelled
    cdef bint repeats               # of add_reader and add_writer: runs more than once

    # 0, or -1 with the callback's exception set: the caller takes it.
    cdef int run(self) noexcept
    cdef int mark_cancelled(self) except -1
    cdef void drop(self) noexcept


cdef class TimerHandle(Handle):
    cdef double deadline            # seconds, on the loop's clock
    cdef Timers timers              # None: not in a heap (any more)
    cdef Py_ssize_t slot


cdef class Ready:
    cdef PyObject **items           # owned references
    cdef Py_ssize_t capacity        # a power of two
    cdef Py_ssize_t head
    cdef Py_ssize_t size

    cdef int push(self, object item) except -1
    cdef object pop(self)           # only where size > 0
    cdef int resize(self, Py_ssize_t capacity) except -1
    cdef int clear(self) except -1


cdef struct Entry:
    double deadline
    unsigned long long order        # of equal deadlines the older goes first
    PyObject *handle                # an owned reference


cdef class Timers:
    cdef Entry *heap
    cdef Py_ssize_t capacity
    cdef Py_ssize_t size
    cdef unsigned long long pushed

    cdef int push(self, TimerHandle handle) except -1
    cdef int remove(self, TimerHandle handle) except -1
    cdef int move_due(self, double until, Ready ready) except -1
    cdef object take(self, Py_ssize_t slot)
    cdef int resize(self, Py_ssize_t capacity) except -1
    cdef void sift_up(self, Py_ssize_t slot, Entry entry) noexcept
    cdef void sift_down(self, Py_ssize_t slot, Entry entry) noexcept
    cdef int clear(self) except -1


cdef Handle new_handle(object callback, tuple args, object context)
cdef TimerHandle new_timer(double deadline, object callback, tuple args, object context)
