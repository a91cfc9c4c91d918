# THE contract: what a transport may ask of the kernel, and what comes back.
#
# A transport never reads, writes or waits. It asks a driver, and the driver answers
# with completions: "these bytes were received", "so many were sent". On readiness
# (select, poll, epoll, kqueue, io_uring as one) the driver waits, then calls the kernel; in a
# driver over io_uring the kernel would do both. The transport could not tell which.
#
# - Loop thread, GIL held, on both sides.
# - Completions arrive from the loop's turn, never from inside start_receiving() or
#   queue(); only flush_now() and send_now() may complete before they return.
# - After stop_receiving() nothing more is received; after detach() no completion
#   comes at all. Every completion may lead to either, or to another call of any of
#   these: a driver looks again at the endpoint after each.
# - A completion returns -1 only with an exception that must leave the loop
#   (KeyboardInterrupt, SystemExit); what else a protocol raises ends in its transport.
# - The transport owns the descriptor, and closes it after detach().

from posix.uio cimport iovec

from neverblock.engine.transport_base cimport TransportBase


cdef class Endpoint(TransportBase):
    cdef int fd                     # -1: detached
    cdef unsigned char pending      # what the kernel found it ready for, not yet served
    cdef bint is_socket             # send(2) and recv(2), not write(2) and read(2)
    cdef bint own_buffer            # reserve() says where received bytes go
    cdef bint receiving             # start_receiving() is in force
    cdef bint blocked               # the kernel took less than it was offered
    cdef bint queued                # in the driver's outbox
    cdef bint aside                 # set_aside() is in force: no row of a table is its own
    cdef object context             # contextvars.Context of all its protocol's callbacks

    # Whether the descriptor is still open, and its own.
    cdef bint holds(self) except -1
    # Where the next bytes go. NULL: it has seen to itself, nothing is to be received.
    cdef char *reserve(self, Py_ssize_t *size) except? NULL
    # Received `size` bytes (in its own buffer: where it said), 0 at the end of input;
    # below 0: -errno, where -EAGAIN says that nothing came after all.
    cdef int received(self, const char *data, Py_ssize_t size) except -1
    # Fills in what there is to send, `limit` pieces at most; returns how many.
    cdef int outgoing(self, iovec *pieces, int limit) noexcept
    # The kernel took `size` bytes of it; below 0: -errno.
    cdef int sent(self, Py_ssize_t size) except -1


cdef class Driver:
    cdef Py_ssize_t queued          # endpoints that flush() sends for: looked at each turn
    # Raises DescriptorLimitError where the descriptor cannot be watched.
    cdef int attach(self, Endpoint endpoint) except -1
    cdef int detach(self, Endpoint endpoint) except -1
    cdef int start_receiving(self, Endpoint endpoint) except -1
    cdef int stop_receiving(self, Endpoint endpoint) except -1
    # Nothing is to be received or sent until it is asked for again, by any of these calls: till
    # then the endpoint lives only as long as somebody else holds it. Its caller does.
    cdef int set_aside(self, Endpoint endpoint) except -1
    # Send what is outgoing at the end of this turn, and go on until it is sent.
    cdef int queue(self, Endpoint endpoint) except -1
    # The same, but begin at once.
    cdef int flush_now(self, Endpoint endpoint) except -1
    # Offer bytes that will not stay: returns how many the kernel took, maybe 0, or -errno.
    cdef Py_ssize_t send_now(self, Endpoint endpoint, const char *data, Py_ssize_t size) noexcept
    # End of turn: begin what was queued. More may be queued meanwhile.
    cdef int flush(self) except -1
    # The loop's turn has come to an endpoint that was ready: deliver its completions.
    cdef int deliver(self, Endpoint endpoint) except -1
