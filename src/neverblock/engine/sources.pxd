# Who waits for which descriptor. The rules are in sources.pyx.

from cpython.object cimport PyObject

from neverblock.engine.driver cimport Endpoint
from neverblock.engine.ready cimport Handle, Ready
from neverblock.multiplexers.base cimport Multiplexer


cdef struct Source:
    PyObject *endpoint      # an attached transport
    PyObject *reader        # the handle of add_reader
    PyObject *writer        # the handle of add_writer
    int wanted              # what the multiplexer watches the descriptor for


cdef class Sources:
    cdef Multiplexer multiplexer
    cdef Ready ready
    cdef Source *table      # by descriptor; all references in it are owned
    cdef Py_ssize_t capacity
    cdef bint closed        # nothing is watched any more

    cdef int attach(self, Endpoint endpoint) except -1
    cdef int check_limit(self, int fd) except -1
    cdef int detach(self, Endpoint endpoint) except -1
    cdef int set_aside(self, Endpoint endpoint) except -1
    cdef int take_back(self, Endpoint endpoint) except -1
    cdef int refresh(self, int fd) except -1
    cdef int set_handle(self, int fd, int mask, Handle handle) except -1
    cdef int remove_handle(self, int fd, int mask) except -1
    cdef bint has_handle(self, int fd) noexcept
    cdef Endpoint endpoint(self, int fd)
    cdef int found(self, int fd, int mask) except -1
    cdef int clear(self) except -1
    cdef int abandon(self) except -1
    cdef int reach(self, int fd) except -1
    cdef int watch(self, Source *source, int fd, int wanted) except -1
