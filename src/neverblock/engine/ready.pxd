# Work that is due: handles, the ring they wait in, and the heap of timers.
# The rules are in ready.pyx.

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

cdef extern from *:
    """
    #define NB_TUPLE_ITEMS(sequence) (((PyTupleObject *) (sequence))->ob_item)
    """
    PyObject **NB_TUPLE_ITEMS(PyObject *sequence) noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject *sequence) noexcept
    int PyContext_Enter(PyObject *context) noexcept
    int PyContext_Exit(PyObject *context) noexcept
    PyObject *PyObject_Vectorcall(
        PyObject *callable, PyObject **args, size_t count, PyObject *names) noexcept


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
    cdef inline int run(self) noexcept:
        # The callback may cancel its own handle: hold what it runs on. NULL is
        # looked for by hand: try/finally would cost as much as the call.
        cdef object callback = self.callback
        cdef tuple args = self.args
        cdef object context = self.context
        cdef PyObject *result
        if PyContext_Enter(<PyObject *> context) < 0:
            return -1
        result = PyObject_Vectorcall(
            <PyObject *> callback,
            NB_TUPLE_ITEMS(<PyObject *> args), PyTuple_GET_SIZE(<PyObject *> args), NULL)
        PyContext_Exit(<PyObject *> context)
        if result is NULL:
            return -1
        Py_DECREF(<object> result)
        return 0

    cdef inline void drop(self) noexcept:
        self.callback = None
        self.args = None
        self.context = None

    cdef int mark_cancelled(self) except -1


cdef class TimerHandle(Handle):
    cdef double deadline            # seconds, on the loop's clock
    cdef Timers timers              # None: not in a heap (any more)
    cdef Py_ssize_t slot


cdef class Ready:
    cdef PyObject **items           # owned references
    cdef Py_ssize_t capacity        # a power of two
    cdef Py_ssize_t head
    cdef Py_ssize_t size

    cdef inline int push(self, object item) except -1:
        if self.size == self.capacity:
            self.resize(self.capacity * 2)
        Py_INCREF(item)
        self.items[(self.head + self.size) & (self.capacity - 1)] = <PyObject *> item
        self.size += 1
        return 0

    cdef inline object pop(self):       # only where size > 0
        cdef object item = <object> self.items[self.head]
        self.head = (self.head + 1) & (self.capacity - 1)
        self.size -= 1
        Py_DECREF(item)
        return item

    cdef int resize(self, Py_ssize_t capacity) except -1
    cdef int shrink(self) except -1
    cdef int clear(self) except -1
    cdef int abandon(self) except -1


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
