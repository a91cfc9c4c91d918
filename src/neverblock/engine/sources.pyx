"""Who waits for which descriptor: the table between the multiplexer and the ready ring.

- A descriptor has at most one transport, one reader and one writer. What the
  multiplexer watches it for is always the sum of what these want.
- Events are turned into ready work before any callback runs: when a callback closes a
  descriptor and its number is used again, the old event meets the old owner.
- The table keeps an attached transport alive: nobody else may hold it. But one that waits for
  nothing is set aside, out of the table: it goes when nobody holds it, and is taken back before
  anything is done with its descriptor. Its number may be another's by then.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.errno cimport errno
from libc.string cimport memset
from posix.fcntl cimport F_GETFD, fcntl

from neverblock.engine.driver cimport Endpoint
from neverblock.engine.ready cimport Handle, Ready
from neverblock.multiplexers.base cimport READ, WRITE, Multiplexer

import os

from neverblock.errors import DescriptorLimitError


cdef inline int put(PyObject **place, object owner) except -1:
    # The new reference stands before the old one is dropped: that may run any code.
    cdef PyObject *old = place[0]
    if owner is None:
        place[0] = NULL
    else:
        Py_INCREF(owner)
        place[0] = <PyObject *> owner
    Py_XDECREF(old)
    return 0


@cython.final
cdef class Sources:
    """The table of watched descriptors."""

    def __cinit__(self, Multiplexer multiplexer, Ready ready):
        self.multiplexer = multiplexer
        self.ready = ready

    def __dealloc__(self):
        self.clear()

    cdef int attach(self, Endpoint endpoint) except -1:
        cdef int fd = endpoint.fd
        self.check_limit(fd)
        self.reach(fd)
        old = self.endpoint(fd)
        if old is not None:
            raise RuntimeError(f"descriptor {fd} already belongs to {old!r}")
        # Handles left by somebody who closed the descriptor under us, before its
        # number was used again: they must not hide that the new one is not watched.
        self.remove_handle(fd, READ)
        self.remove_handle(fd, WRITE)
        return put(&self.table[fd].endpoint, endpoint)

    cdef int check_limit(self, int fd) except -1:
        cdef int limit = self.multiplexer.limit
        if 0 <= limit <= fd:
            raise DescriptorLimitError(type(self.multiplexer).__name__.lower(), fd, limit)
        return 0

    cdef int detach(self, Endpoint endpoint) except -1:
        cdef int fd = endpoint.fd
        if endpoint.aside:
            endpoint.aside = False
            endpoint.fd = -1
        elif fd >= 0:
            endpoint.receiving = endpoint.blocked = False
            self.refresh(fd)
            endpoint.fd = -1
            put(&self.table[fd].endpoint, None)
        return 0

    cdef int set_aside(self, Endpoint endpoint) except -1:
        cdef int fd = endpoint.fd
        if fd >= 0 and not endpoint.aside:
            endpoint.receiving = endpoint.blocked = False
            self.refresh(fd)
            endpoint.aside = True
            put(&self.table[fd].endpoint, None)
        return 0

    cdef int take_back(self, Endpoint endpoint) except -1:
        """Of one set aside: attached again; detached where its file is gone, or the loop."""
        endpoint.aside = False
        if self.closed or not endpoint.holds() or self.endpoint(endpoint.fd) is not None:
            endpoint.fd = -1
            return 0
        try:
            return self.attach(endpoint)
        except BaseException:
            endpoint.fd = -1
            raise

    cdef int refresh(self, int fd) except -1:
        cdef Source *source
        cdef int wanted = 0
        cdef Endpoint endpoint
        if fd < 0 or fd >= self.capacity:
            return 0    # its loop was closed before it was
        source = &self.table[fd]
        if source.endpoint is not NULL:
            endpoint = <Endpoint> source.endpoint
            wanted = (READ if endpoint.receiving else 0) | (WRITE if endpoint.blocked else 0)
        if source.reader is not NULL:
            wanted |= READ
        if source.writer is not NULL:
            wanted |= WRITE
        if wanted != source.wanted:
            self.watch(source, fd, wanted)
        return 0

    cdef int watch(self, Source *source, int fd, int wanted) except -1:
        # `wanted` is what the kernel has, also where it refuses.
        if wanted == 0:
            source.wanted = 0
            self.multiplexer.drop(fd)
        elif source.wanted == 0:
            self.multiplexer.add(fd, wanted)
        else:
            try:
                self.multiplexer.change(fd, wanted)
            except FileNotFoundError:
                # Closed without a word, and its number is in use again.
                source.wanted = 0
                self.multiplexer.drop(fd)
                self.multiplexer.add(fd, wanted)
        source.wanted = wanted
        return 0

    cdef int set_handle(self, int fd, int mask, Handle handle) except -1:
        cdef Source *source
        cdef PyObject **place
        cdef Handle old
        self.check_limit(fd)
        self.reach(fd)
        source = &self.table[fd]
        place = &source.reader if mask == READ else &source.writer
        # Asked for even where it is watched already: see watch().
        self.watch(source, fd, source.wanted | mask)
        old = None if place[0] is NULL else <Handle> place[0]
        put(place, handle)
        if old is not None:
            old.cancel()        # which may run any code: the table may have moved
        return 0

    cdef int remove_handle(self, int fd, int mask) except -1:
        cdef Source *source
        cdef PyObject **place
        cdef Handle handle
        if fd >= self.capacity:
            return 0
        source = &self.table[fd]
        place = &source.reader if mask == READ else &source.writer
        if place[0] is NULL:
            return 0
        handle = <Handle> place[0]
        put(place, None)
        handle.cancel()
        self.refresh(fd)
        return 1

    cdef bint has_handle(self, int fd) noexcept:
        return 0 <= fd < self.capacity and (
            self.table[fd].reader is not NULL or self.table[fd].writer is not NULL)

    cdef Endpoint endpoint(self, int fd):
        cdef Endpoint endpoint
        if fd < 0 or fd >= self.capacity or self.table[fd].endpoint is NULL:
            return None
        endpoint = <Endpoint> self.table[fd].endpoint
        if endpoint.holds():
            return endpoint
        # Its file was closed by somebody else: the number is free, or another's.
        self.detach(endpoint)
        return None

    cdef int found(self, int fd, int mask) except -1:
        # Queue who waits for it: the transport, the reader, then the writer.
        cdef Source *source
        cdef Endpoint endpoint
        cdef int events
        if fd >= self.capacity:
            return self.multiplexer.drop(fd)
        source = &self.table[fd]
        if source.endpoint is not NULL:
            endpoint = <Endpoint> source.endpoint
            events = mask & (
                (READ if endpoint.receiving else 0) | (WRITE if endpoint.blocked else 0))
            if events:
                if endpoint.pending == 0:
                    self.ready.push(endpoint)
                endpoint.pending |= events
        if mask & READ and source.reader is not NULL:
            if (<Handle> source.reader).is_cancelled:
                self.remove_handle(fd, READ)
                source = &self.table[fd]        # that may run any code
            else:
                self.ready.push(<object> source.reader)
        if mask & WRITE and source.writer is not NULL:
            if (<Handle> source.writer).is_cancelled:
                self.remove_handle(fd, WRITE)
            else:
                self.ready.push(<object> source.writer)
        return 0

    cdef int reach(self, int fd) except -1:
        # Make the table large enough. Sources move: no pointer to one outlives this.
        cdef Py_ssize_t capacity = self.capacity or 64
        cdef Source *table
        if fd < self.capacity:
            return 0
        if fcntl(fd, F_GETFD) < 0:
            # A number that nobody opened may be any: no memory for it.
            raise OSError(errno, os.strerror(errno))
        while capacity <= fd:
            capacity *= 2
        table = <Source *> PyMem_Realloc(self.table, capacity * sizeof(Source))
        if table is NULL:
            raise MemoryError
        memset(table + self.capacity, 0, (capacity - self.capacity) * sizeof(Source))
        self.table = table
        self.capacity = capacity
        return 0

    cdef int clear(self) except -1:
        # The kernel is not told: the multiplexer goes too, or belongs to a parent process.
        cdef Py_ssize_t fd
        cdef Source source
        self.closed = True
        for fd in range(self.capacity):
            source = self.table[fd]
            memset(&self.table[fd], 0, sizeof(Source))
            if source.endpoint is not NULL:
                (<Endpoint> source.endpoint).fd = -1
                (<Endpoint> source.endpoint).receiving = False
                (<Endpoint> source.endpoint).blocked = False
            if source.reader is not NULL:
                (<Handle> source.reader).drop()
            if source.writer is not NULL:
                (<Handle> source.writer).drop()
            Py_XDECREF(source.endpoint)
            Py_XDECREF(source.reader)
            Py_XDECREF(source.writer)
        PyMem_Free(self.table)
        self.table = NULL
        self.capacity = 0
        return 0

    cdef int abandon(self) except -1:
        """In a forked child: nothing is received or sent for the parent's transports."""
        cdef Py_ssize_t fd
        self.closed = True
        for fd in range(self.capacity):
            if self.table[fd].endpoint is not NULL:
                (<Endpoint> self.table[fd].endpoint).fd = -1
                (<Endpoint> self.table[fd].endpoint).receiving = False
                (<Endpoint> self.table[fd].endpoint).blocked = False
        return 0
