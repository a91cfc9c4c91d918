# What a transport has been given to send and the kernel has not taken yet.
#
# - Holds bytes objects alone: what may change after write() is copied by its writer.
# - A piece is let go when it is sent, also where the rest never gets to its end.
# - Knows nothing of its transport, and calls nothing: whoever holds one may be closed
#   between any two of these calls.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear
from cpython.list cimport PyList_Append, PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from posix.uio cimport iovec

cdef extern from *:
    void PyList_SET_ITEM(PyObject *list, Py_ssize_t place, PyObject *stolen) noexcept
    int PyList_SetSlice(
        PyObject *list, Py_ssize_t start, Py_ssize_t stop, PyObject *items) noexcept


cdef enum:
    AT_ONCE = 64 * 1024     # more than this does not wait for the end of the turn
    FEW = 64                # places of the list that are not worth the moving of the rest


cdef struct Outgoing:
    PyObject *first         # the piece that is being sent; owned
    PyObject *rest          # a list of those after it; owned. None: gone
    Py_ssize_t taken        # how many of that list are gone
    Py_ssize_t offset       # bytes of `first` that are gone
    Py_ssize_t size         # bytes left in all


cdef inline int append(Outgoing *self, bytes piece) except -1:
    if self.first is NULL:
        Py_INCREF(piece)
        self.first = <PyObject *> piece
    else:
        if self.rest is NULL:
            rest = []
            Py_INCREF(rest)
            self.rest = <PyObject *> rest
        PyList_Append(<object> self.rest, piece)
    self.size += PyBytes_GET_SIZE(piece)
    return 0


cdef inline int pieces_of(Outgoing *self, iovec *pieces, int limit) noexcept:
    cdef int count = 0
    cdef Py_ssize_t i
    cdef PyObject *piece
    if self.first is NULL:
        return 0
    pieces[0].iov_base = PyBytes_AS_STRING(<object> self.first) + self.offset
    pieces[0].iov_len = PyBytes_GET_SIZE(<object> self.first) - self.offset
    count = 1
    if self.rest is not NULL:
        for i in range(self.taken, PyList_GET_SIZE(<object> self.rest)):
            if count == limit:
                break
            piece = PyList_GET_ITEM(<object> self.rest, i)
            pieces[count].iov_base = PyBytes_AS_STRING(<object> piece)
            pieces[count].iov_len = PyBytes_GET_SIZE(<object> piece)
            count += 1
    return count


cdef inline void clear(Outgoing *self) noexcept:
    cdef PyObject *first = self.first
    cdef PyObject *rest = self.rest
    self.first = self.rest = NULL
    self.taken = self.offset = self.size = 0
    Py_XDECREF(first)
    Py_XDECREF(rest)


# The piece after the first, taken out of the list: the caller owns it.
cdef inline PyObject *next_piece(Outgoing *self) noexcept:
    cdef PyObject *piece = PyList_GET_ITEM(<object> self.rest, self.taken)
    Py_INCREF(None)
    PyList_SET_ITEM(self.rest, self.taken, <PyObject *> None)
    self.taken += 1
    if self.taken > FEW and 2 * self.taken > PyList_GET_SIZE(<object> self.rest):
        if PyList_SetSlice(self.rest, 0, self.taken, NULL) == 0:
            self.taken = 0
        else:
            PyErr_Clear()       # no memory for it: it is tried again
    return piece


cdef inline void consume(Outgoing *self, Py_ssize_t size) noexcept:
    cdef Py_ssize_t left
    cdef PyObject *gone
    if size >= self.size:
        clear(self)
        return
    self.size -= size
    while True:
        left = PyBytes_GET_SIZE(<object> self.first) - self.offset
        if size < left:
            self.offset += size
            return
        size -= left
        gone = self.first
        self.first = next_piece(self)
        self.offset = 0
        Py_XDECREF(gone)
