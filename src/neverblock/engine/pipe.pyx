"""Transports over pipes: FIFOs, character devices, and the sockets that subprocesses use.

- Loop thread, GIL held. The file object owns the descriptor and closes it, once, after
  connection_lost(): nobody closes by number.
- A terminal may be read and written by one descriptor. Who comes second takes a copy of it for
  itself, which no file object knows: it closes that, by number, together with its file.
- connection_lost() is called once, last, and from the loop's turn alone.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EIO
from posix.uio cimport iovec

from neverblock.engine cimport flow, lifecycle, outgoing
from neverblock.engine.driver cimport Driver, Endpoint
from neverblock.engine.engine cimport Engine
from neverblock.engine.flow cimport WaterMarks
from neverblock.engine.lifecycle cimport check_bytes, error_of
from neverblock.engine.outgoing cimport AT_ONCE, Outgoing

import os
import stat
import warnings
from asyncio.log import logger

cdef extern from *:
    object PyContext_CopyCurrent()

cdef enum:
    TOLD_OFTEN_ENOUGH = 5       # writes after the end before a warning: asyncio's number


cdef class PipeEndpoint(Endpoint):
    """One end of a pipe: what its reader and its writer have in common."""

    cdef Engine loop
    cdef Driver driver
    cdef object protocol
    cdef object pipe            # the file object; None once closed
    cdef int copy               # the descriptor of its own, for half a terminal; -1: none
    cdef dict extra
    cdef int lost               # the connection is over; counts writes after that
    cdef bint started           # connection_made() was called
    cdef bint closing

    def __cinit__(self, *args, **kwargs):
        self.lost = 1           # until it is made whole, every method finds it closed
        self.closing = True
        self.copy = -1

    def __init__(self, Engine loop not None, pipe, protocol, waiter=None, extra=None):
        loop.check_closed()
        mode = os.fstat(pipe.fileno()).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
            raise ValueError(
                "Pipe transport is for pipes, sockets and character devices only: "
                f"{pipe!r} is none of these")
        self.loop = loop
        self.driver = loop.driver
        self.protocol = protocol
        self.extra = dict(extra or (), pipe=pipe)
        self.context = PyContext_CopyCurrent()
        os.set_blocking(pipe.fileno(), False)
        self.fd = pipe.fileno()
        try:
            if stat.S_ISCHR(mode) and self.is_other_half(loop._transport_of(self.fd)):
                self.fd = self.copy = os.dup(self.fd)
            self.driver.attach(self)
        except BaseException:
            self.fd = -1
            self.close_copy()
            raise
        # From here on the file is ours, and __del__ closes what nobody else did.
        self.pipe = pipe
        self.lost = 0
        self.closing = False
        loop.call_soon(self._start, waiter, context=self.context)

    def __del__(self):
        if self.pipe is not None:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self.release()

    def _start(self, waiter):
        lifecycle.begin(self.loop, self, self.protocol)
        self.started = True
        try:
            self.receive_if_due()
        except OSError as error:
            self._fatal_error(error, "Fatal read error on pipe transport")
        lifecycle.resolve(waiter)

    cdef bint holds(self) except -1:
        return self.pipe is None or self.copy >= 0 or self.number() == self.fd

    cdef bint is_other_half(self, object other) noexcept:
        return isinstance(other, PipeEndpoint) and (
            isinstance(other, ReadPipeEndpoint) != isinstance(self, ReadPipeEndpoint))

    cdef int close_copy(self) except -1:
        cdef int copy = self.copy
        if copy >= 0:
            self.copy = -1
            os.close(copy)
        return 0

    cdef object number(self):
        try:
            return self.pipe.fileno()
        except ValueError:      # somebody closed the file
            return -1

    cdef str state(self, bint polling):
        return "open" if self.loop._closed else "polling" if polling else "idle"

    cdef int receive_if_due(self) except -1:
        raise NotImplementedError

    cdef int finish(self, object error) except -1:
        if self.lost == 0:
            self.lost = 1
            self.closing = True
            self.driver.detach(self)
            self.loop.call_soon(self._call_connection_lost, error, context=self.context)
        return 0

    def _call_connection_lost(self, error):
        try:
            self.protocol.connection_lost(error)
        finally:
            self.release()

    cdef int release(self) except -1:
        pipe = self.pipe
        self.pipe = self.protocol = None
        try:
            self.close_copy()       # which somebody else may have closed
        finally:
            if pipe is not None:
                pipe.close()
        return 0

    def _fatal_error(self, error, message="Fatal error on pipe transport"):
        # A terminal answers EIO when its other end is closed.
        lifecycle.tell(
            self.loop, self, self.protocol, error, message,
            isinstance(error, OSError) and (self.expects_errors() or error.errno == EIO))
        self.finish(error)

    cdef bint expects_errors(self) noexcept:
        return False

    def abort(self):
        """Close at once; then connection_lost(None)."""
        self.finish(None)

    def is_closing(self):
        """Whether it is closed, or about to be."""
        return self.closing

    def set_protocol(self, protocol):
        """Hand what comes to another protocol."""
        self.protocol = protocol

    def get_protocol(self):
        """The protocol now; None when the pipe is closed."""
        return self.protocol

    def get_extra_info(self, name, default=None):
        """pipe, and what the maker of the transport added."""
        return self.extra.get(name, default)

    @property
    def _extra(self):
        return self.extra

    @property
    def _loop(self):
        return self.loop


cdef class ReadPipeEndpoint(PipeEndpoint):
    """See ReadPipeTransport: this is its compiled part."""

    cdef bint paused

    def __repr__(self):
        parts = [type(self).__name__]
        if self.pipe is None:
            parts.append("closed")
        else:
            if self.closing:
                parts.append("closing")
            parts.append(f"fd={self.number()}")
            parts.append(self.state(self.receiving))
        return f"<{' '.join(parts)}>"

    cdef int receive_if_due(self) except -1:
        if self.started and not (self.receiving or self.closing or self.paused):
            self.driver.start_receiving(self)
        return 0

    cdef int received(self, const char *data, Py_ssize_t size) except -1:
        if size > 0:
            try:
                self.protocol.data_received(PyBytes_FromStringAndSize(data, size))
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                lifecycle.tell(
                    self.loop, self, self.protocol, error,
                    "protocol.data_received() failed", False)
        elif size == 0:
            if self.loop._debug:
                logger.info("%r was closed by peer", self)
            self.loop.call_soon(self.protocol.eof_received, context=self.context)
            self.finish(None)
        elif size != -EAGAIN:
            self._fatal_error(error_of(size), "Fatal read error on pipe transport")
        return 0

    def is_reading(self):
        """Whether received data goes to the protocol."""
        return not self.paused and not self.closing

    def pause_reading(self):
        """Receive no more until resume_reading(). Idempotent."""
        if self.paused or self.closing:
            return
        self.paused = True
        if self.receiving:
            self.driver.stop_receiving(self)
        if self.loop._debug:
            logger.debug("%r pauses reading", self)

    def resume_reading(self):
        """Receive again. Idempotent."""
        if self.closing or not self.paused:
            return
        self.paused = False
        self.receive_if_due()
        if self.loop._debug:
            logger.debug("%r resumes reading", self)

    def close(self):
        """Close; then connection_lost(None)."""
        self.finish(None)


cdef class WritePipeEndpoint(PipeEndpoint):
    """See WritePipeTransport: this is its compiled part."""

    cdef Outgoing unsent
    cdef WaterMarks marks

    def __init__(self, Engine loop, pipe, protocol, waiter=None, extra=None):
        flow.set_marks(&self.marks, None, None)
        # It does not read, but is told so that there is something: see reserve().
        self.own_buffer = True
        super().__init__(loop, pipe, protocol, waiter, extra)

    def __dealloc__(self):
        outgoing.clear(&self.unsent)

    def __repr__(self):
        parts = [type(self).__name__]
        if self.pipe is None:
            parts.append("closed")
        else:
            if self.closing:
                parts.append("closing")
            parts.append(f"fd={self.number()}")
            parts.append(self.state(self.blocked))
            parts.append(f"bufsize={self.unsent.size}")
        return f"<{' '.join(parts)}>"

    cdef bint expects_errors(self) noexcept:
        return True

    cdef int receive_if_due(self) except -1:
        # A pipe or socket whose reader is gone is ready to be read; a terminal or a
        # device may be so for other reasons.
        if not self.closing and not stat.S_ISCHR(os.fstat(self.fd).st_mode):
            self.driver.start_receiving(self)
        return 0

    cdef char *reserve(self, Py_ssize_t *size) except? NULL:
        if self.loop._debug:
            logger.info("%r was closed by peer", self)
        self.finish(BrokenPipeError() if self.unsent.size else None)
        return NULL

    cdef int finish(self, object error) except -1:
        outgoing.clear(&self.unsent)
        return PipeEndpoint.finish(self, error)

    def write(self, data):
        """Send a bytes-like object, in order, without waiting."""
        check_bytes(data)
        if not len(data):
            return
        if self.lost or self.closing:
            if self.lost >= TOLD_OFTEN_ENOUGH:
                logger.warning(
                    "pipe closed by peer or os.write(pipe, data) raised exception.")
            self.lost += 1
            return
        outgoing.append(&self.unsent, <bytes> data if type(data) is bytes else bytes(data))
        if self.unsent.size > min(self.marks.high, AT_ONCE) or not self.loop.in_turn():
            self.driver.flush_now(self)
            if not self.lost:
                flow.pause_if_high(
                    &self.marks, self.unsent.size, self.loop, self, self.protocol)
        if self.unsent.size:
            self.driver.queue(self)

    cdef int outgoing(self, iovec *pieces, int limit) noexcept:  # no-cython-lint
        return outgoing.pieces_of(&self.unsent, pieces, limit)

    cdef int sent(self, Py_ssize_t size) except -1:
        if size < 0:
            self._fatal_error(error_of(size), "Fatal write error on pipe transport")
            return 0
        outgoing.consume(&self.unsent, size)
        flow.resume_if_low(&self.marks, self.unsent.size, self.loop, self, self.protocol)
        if self.closing and self.unsent.size == 0:
            self.finish(None)
        return 0

    def can_write_eof(self):
        """True: closing a pipe is its end."""
        return True

    def write_eof(self):
        """Close when all that was written is sent; then connection_lost(None)."""
        if self.closing:
            return
        self.closing = True
        if self.unsent.size:
            self.driver.flush_now(self)
        if self.unsent.size == 0:
            self.finish(None)

    def close(self):
        """Close when all that was written is sent; then connection_lost(None)."""
        self.write_eof()

    def abort(self):
        """Close at once: what the kernel has not taken is lost; then connection_lost(None)."""
        if self.unsent.size and not self.lost:
            # Written this turn: asyncio would have offered it to the kernel already.
            self.driver.flush_now(self)
        self.finish(None)

    def get_write_buffer_size(self):
        """Bytes written and not yet taken by the kernel."""
        return self.unsent.size

    def get_write_buffer_limits(self):
        """(low, high): the water marks in bytes."""
        return self.marks.low, self.marks.high

    def set_write_buffer_limits(self, high=None, low=None):
        """Pause the protocol above `high` bytes unsent, resume it at `low` or below."""
        flow.set_marks(&self.marks, high, low)
        if not self.lost:
            flow.pause_if_high(&self.marks, self.unsent.size, self.loop, self, self.protocol)

    @property
    def _protocol_paused(self):
        return self.marks.paused


class ReadPipeTransport(ReadPipeEndpoint):
    """The reading end of a pipe as an asyncio.ReadTransport (PEP 3156)."""

    __slots__ = ("__dict__", "__weakref__")


class WritePipeTransport(WritePipeEndpoint):
    """The writing end of a pipe as an asyncio.WriteTransport (PEP 3156)."""

    __slots__ = ("__dict__", "__weakref__")
