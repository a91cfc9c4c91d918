"""The driver over any multiplexer: wait until the kernel is ready, then call it.

- One read for one readiness: what is left is reported again, after everybody else.
- What was written within a turn leaves at its end, in one system call.
- An endpoint may be detached by any completion: its descriptor is looked at after each.
- A completion may take a turn itself (loop._run_once()). The flush of that turn sends what the one
  around it has left, so that nobody waits for what was not sent.
"""

cimport cython
from cpython.exc cimport PyErr_Clear
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, EBADF, EINTR, errno
from posix.uio cimport iovec, writev
from posix.unistd cimport read

from neverblock.engine.driver cimport Driver, Endpoint
from neverblock.engine.sources cimport Sources
from neverblock.multiplexers.base cimport READ, WRITE

cdef extern from *:
    """
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif

    static inline ssize_t nb_sendv(int fd, struct iovec *pieces, int count) {
        struct msghdr message;
        memset(&message, 0, sizeof message);
        message.msg_iov = pieces;
        message.msg_iovlen = count;
        return sendmsg(fd, &message, MSG_NOSIGNAL);
    }
    """
    ssize_t nb_sendv(int fd, iovec *pieces, int count) noexcept nogil
    ssize_t recv(int fd, void *data, size_t size, int flags) noexcept nogil
    ssize_t send(int fd, const void *data, size_t size, int flags) noexcept nogil
    int MSG_NOSIGNAL
    int PyContext_Enter(PyObject *context) noexcept
    int PyContext_Exit(PyObject *context) except -1

cdef enum:
    SCRATCH = 256 * 1024        # bytes received at most at once: asyncio's max_size
    PIECES = 64                 # buffers in one system call
    CALLS = 16                  # system calls in a row for one endpoint


cdef inline ssize_t offer(Endpoint endpoint, iovec *pieces, int count) noexcept:
    cdef ssize_t size
    while True:
        if endpoint.is_socket:
            if count == 1:
                size = send(endpoint.fd, pieces[0].iov_base, pieces[0].iov_len, MSG_NOSIGNAL)
            else:
                size = nb_sendv(endpoint.fd, pieces, count)
        else:
            size = writev(endpoint.fd, pieces, count)
        if size >= 0:
            return size
        if errno != EINTR:
            return -errno


@cython.final
cdef class Readiness(Driver):
    """Reads and writes for endpoints when a multiplexer says that it can be done."""

    def __cinit__(self, Sources sources):
        self.sources = sources
        self.outbox = []
        self.spare = []
        self.scratch = <char *> PyMem_Malloc(SCRATCH)
        if self.scratch is NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.scratch)

    cdef int attach(self, Endpoint endpoint) except -1:
        return self.sources.attach(endpoint)

    cdef int detach(self, Endpoint endpoint) except -1:
        return self.sources.detach(endpoint)

    cdef int start_receiving(self, Endpoint endpoint) except -1:
        if endpoint.aside:
            self.sources.take_back(endpoint)
        endpoint.receiving = True
        return self.sources.refresh(endpoint.fd)

    cdef int stop_receiving(self, Endpoint endpoint) except -1:
        endpoint.receiving = False
        return self.sources.refresh(endpoint.fd)

    cdef int set_aside(self, Endpoint endpoint) except -1:
        return self.sources.set_aside(endpoint)

    cdef int queue(self, Endpoint endpoint) except -1:
        if not endpoint.queued and not endpoint.blocked:
            endpoint.queued = True
            self.outbox.append(endpoint)
            self.queued += 1
        return 0

    cdef int flush_now(self, Endpoint endpoint) except -1:
        if endpoint.blocked or endpoint.fd < 0:
            return 0
        return self.transmit(endpoint)

    cdef Py_ssize_t send_now(self, Endpoint endpoint, const char *data, Py_ssize_t size) noexcept:
        cdef iovec piece
        cdef ssize_t sent
        if endpoint.blocked or endpoint.fd < 0 or endpoint.aside:
            return 0
        piece.iov_base = <void *> data
        piece.iov_len = size
        sent = offer(endpoint, &piece, 1)
        return 0 if sent == -EAGAIN else sent

    cdef int flush(self) except -1:
        cdef list batch = self.batch
        cdef bint within = batch is not None
        cdef Endpoint endpoint
        if within:
            # What is done is taken out: a loop may be run in there for long.
            del batch[:self.done]
            batch.extend(self.outbox)
            self.outbox.clear()
        else:
            # What is queued meanwhile belongs to the next turn. `queued` counts the batch as well
            # while it lasts, so a turn within does not sleep on it.
            batch = self.outbox
            self.outbox = self.spare
            self.spare = None
            self.batch = batch
        self.done = 0
        try:
            while self.done < len(batch):
                endpoint = <Endpoint> batch[self.done]
                self.done += 1
                endpoint.queued = False
                if endpoint.fd >= 0 and not endpoint.blocked:
                    self.in_context(endpoint, WRITE)
        finally:
            if not within:
                if self.done < len(batch):
                    self.outbox[:0] = batch[self.done:]
                batch.clear()
                self.batch = None
                self.spare = batch
                self.done = 0
            self.queued = len(batch) - self.done + len(self.outbox)
        return 0

    cdef int deliver(self, Endpoint endpoint) except -1:
        cdef int events = endpoint.pending
        endpoint.pending = 0
        if endpoint.fd >= 0:
            self.in_context(endpoint, events)
        return 0

    cdef int in_context(self, Endpoint endpoint, int events) except -1:
        cdef object context = endpoint.context
        cdef bint entered = PyContext_Enter(<PyObject *> context) == 0
        if not entered:
            PyErr_Clear()       # a completion of its own has taken this turn: it is in force
        try:
            if events & READ and endpoint.receiving:
                self.receive(endpoint)
            if events & WRITE and endpoint.fd >= 0:
                self.transmit(endpoint)
        finally:
            if entered:
                PyContext_Exit(<PyObject *> context)
        return 0

    cdef int receive(self, Endpoint endpoint) except -1:
        cdef char *data = self.scratch
        cdef Py_ssize_t size = SCRATCH
        cdef ssize_t received
        if endpoint.own_buffer:
            data = endpoint.reserve(&size)
            if data is NULL:
                return 0
        if endpoint.is_socket:
            received = recv(endpoint.fd, data, size, 0)
        else:
            received = read(endpoint.fd, data, size)
        if received < 0:
            received = -EAGAIN if errno == EINTR else -errno
        return endpoint.received(data, received)

    cdef int transmit(self, Endpoint endpoint) except -1:
        cdef iovec[PIECES] pieces
        cdef ssize_t sent, offered
        cdef int count, i, _call
        if endpoint.aside:
            if endpoint.outgoing(pieces, 1) == 0:
                return 0
            self.sources.take_back(endpoint)
            if endpoint.fd < 0:
                return 0 if self.sources.closed else endpoint.sent(-EBADF)
        for _call in range(CALLS):
            count = endpoint.outgoing(pieces, PIECES)
            if count == 0:
                return self.set_blocked(endpoint, False)
            offered = 0
            for i in range(count):
                offered += pieces[i].iov_len
            sent = offer(endpoint, pieces, count)
            if sent == -EAGAIN:
                sent = 0
            if sent != 0:
                try:
                    endpoint.sent(sent)
                except BaseException:
                    if endpoint.fd >= 0:
                        self.queue(endpoint)    # the rest, when the loop runs again
                    raise
            if sent < 0 or endpoint.fd < 0:
                return 0
            if sent < offered:
                return self.set_blocked(endpoint, True)
        # It would go on, and so may its peer: let the others have their turn.
        self.set_blocked(endpoint, False)
        return self.queue(endpoint)

    cdef int set_blocked(self, Endpoint endpoint, bint blocked) except -1:
        if endpoint.blocked != blocked:
            endpoint.blocked = blocked
            self.sources.refresh(endpoint.fd)
        return 0
