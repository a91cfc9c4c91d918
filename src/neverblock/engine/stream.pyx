"""Transports over connected stream sockets: TCP and Unix.

- Loop thread, GIL held. The socket object owns the descriptor and closes it once, after
  connection_lost(); until then the driver's table keeps the transport alive. After the peer's
  end, with nothing left to send, it does not: one that nobody holds closes its socket and goes.
- Any protocol callback may close, abort, pause or write: state is settled before one is
  called, and looked at again after.
- connection_lost() is called once, last, and from the loop's turn alone.
- Writes made within a turn leave at its end. What is past the high-water mark leaves at
  once, so that a protocol is paused only when the kernel is full; and so does what is
  written while the loop does not run.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, _PyBytes_Resize
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer)
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.errno cimport EAGAIN
from posix.uio cimport iovec

from neverblock.engine cimport flow, lifecycle, outgoing
from neverblock.engine.driver cimport Driver, Endpoint
from neverblock.engine.engine cimport Engine
from neverblock.engine.flow cimport WaterMarks
from neverblock.engine.lifecycle cimport check_bytes, error_of
from neverblock.engine.outgoing cimport AT_ONCE, Outgoing

import asyncio
import socket
import warnings
from asyncio import constants, trsock
from asyncio.log import logger

from neverblock._compat import attach_to_server, detach_from_server

cdef extern from *:
    """
    #define NB_TAKE_OVER(owned) (owned)
    """
    object take_over "NB_TAKE_OVER"(PyObject *owned)
    object PyContext_CopyCurrent()

cdef enum:
    BULK = 256 * 1024           # bytes received at most at once: asyncio's max_size
    TOLD_OFTEN_ENOUGH = 5       # writes after the end before a warning: asyncio's number


cdef class StreamEndpoint(Endpoint):
    """See StreamTransport: this is its compiled part."""

    cdef Engine loop
    cdef Driver driver
    cdef object protocol
    cdef object sock            # None once closed
    cdef object told_end        # the protocol that was told of the peer's end
    cdef object server          # the asyncio.Server that accepted it
    cdef object peername
    cdef dict extra             # of get_extra_info(); None until it is asked for
    cdef object empty_waiter    # a future: resolved when all is sent
    cdef object place           # where the next bytes go: see reserve()
    cdef bint buffered          # the protocol is a BufferedProtocol
    cdef Outgoing unsent
    cdef WaterMarks marks
    cdef int lost               # the connection is over; counts writes after that
    cdef bint started           # connection_made() was called
    cdef bint closing           # no more is read
    cdef bint paused
    cdef bint eof               # we have sent our last

    def __cinit__(self, *args, **kwargs):
        self.lost = 1           # until it is made whole, every method finds it closed
        self.closing = True

    def __init__(
            self, Engine loop not None, sock, protocol, waiter=None, dict extra=None, server=None,
            context=None):
        loop.check_closed()
        self.loop = loop
        self.driver = loop.driver
        self.is_socket = True
        self.context = PyContext_CopyCurrent() if context is None else context
        flow.set_marks(&self.marks, None, None)
        self.set_protocol(protocol)
        if extra is not None and "peername" in extra:
            self.peername = extra["peername"]
        else:
            # Asked for now: it is not to be had when the peer has gone.
            try:
                self.peername = sock.getpeername()
            except OSError:
                self.peername = None
        if extra is not None and len(extra) > 1:
            self.extra = extra
        if server is not None:
            attach_to_server(server, self)
        self.fd = sock.fileno()
        try:
            self.driver.attach(self)
        except BaseException:
            self.fd = -1
            if server is not None:
                detach_from_server(server, self)
            raise
        # From here on the socket is ours, and __del__ closes what nobody else did.
        self.sock = sock
        self.server = server
        self.lost = 0
        self.closing = False
        loop.call_soon(self._start, waiter, context=self.context)

    def __dealloc__(self):
        outgoing.clear(&self.unsent)

    def __del__(self):
        # What refers to it may have gone in the same moment, and closed it: see finish().
        if self.sock is not None and (self.lost == 0 or self.loop._closed):
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self.lost = 1
            self.closing = True
            if self.aside:
                self.driver.detach(self)
            self.release()

    def __repr__(self):
        parts = [type(self).__name__]
        if self.sock is None:
            parts.append("closed")
        elif self.closing:
            parts.append("closing")
        if self.sock is not None:
            parts.append(f"fd={self.sock.fileno()}")
            parts.append(f"read={'polling' if self.receiving else 'idle'}")
            parts.append(
                f"write=<{'polling' if self.blocked else 'idle'}, bufsize={self.unsent.size}>")
        return f"<{' '.join(parts)}>"

    cdef bint holds(self) except -1:
        return self.sock is None or self.sock.fileno() == self.fd

    # Beginning and end

    def _start(self, waiter):
        lifecycle.begin(self.loop, self, self.protocol)
        self.started = True
        try:
            self.receive_if_due()
        except OSError as error:
            self._fatal_error(error, "Fatal read error on socket transport")
        lifecycle.resolve(waiter)

    cdef int receive_if_due(self) except -1:
        # After the end there is nothing more, but for a protocol that has not been told.
        if self.started and not self.receiving and not (
                self.closing or self.paused or self.lost or self.told_end is self.protocol):
            self.driver.start_receiving(self)
        return 0

    cdef int finish(self, object error) except -1:
        # connection_lost() comes by the ready ring: no protocol is told within its own call.
        if self.lost == 0:
            self.lost = 1
            self.closing = True
            outgoing.clear(&self.unsent)
            self.driver.detach(self)
            self.loop.call_soon(self._call_connection_lost, error, context=self.context)
        return 0

    def _call_connection_lost(self, error):
        try:
            self.protocol.connection_lost(error)
        finally:
            self.release()
            if self.empty_waiter is not None and not self.empty_waiter.done():
                self.empty_waiter.set_exception(
                    ConnectionError("Connection is closed by peer"))

    cdef int release(self) except -1:
        sock, server = self.sock, self.server
        self.sock = self.server = self.protocol = self.told_end = None
        if sock is not None:
            sock.close()
        if server is not None:
            detach_from_server(server, self)
        return 0

    def close(self):
        """Close when all that was written is sent; then connection_lost(None)."""
        if self.closing:
            return
        self.closing = True
        if self.receiving:
            self.driver.stop_receiving(self)
        if self.unsent.size:
            self.driver.flush_now(self)
        if self.unsent.size == 0:
            self.finish(None)

    def abort(self):
        """Close at once: what the kernel has not taken is lost; then connection_lost(None)."""
        if self.unsent.size and not self.lost:
            # Written this turn: asyncio would have offered it to the kernel already.
            self.driver.flush_now(self)
        self.finish(None)

    def _force_close(self, error):
        self.finish(error)

    def _fatal_error(self, error, message="Fatal error on transport"):
        lifecycle.tell(
            self.loop, self, self.protocol, error, message, isinstance(error, OSError))
        self.finish(error)

    def is_closing(self):
        """Whether it is closed, or about to be."""
        return self.closing

    # The protocol

    def set_protocol(self, protocol):
        """Hand what comes to another protocol.

        The peer's end as well, where that has been received: when reading is resumed.
        """
        self.protocol = protocol
        self.own_buffer = self.buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self):
        """The protocol now; None when the connection is over."""
        return self.protocol

    # Reading

    def is_reading(self):
        """Whether received data goes to the protocol."""
        return not self.closing and not self.paused

    def pause_reading(self):
        """Receive no more until resume_reading(). Idempotent."""
        if self.closing or self.paused:
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

    cdef char *reserve(self, Py_ssize_t *size) except? NULL:
        if not self.buffered:
            size[0] = BULK
            self.place = PyBytes_FromStringAndSize(NULL, BULK)
            return PyBytes_AS_STRING(self.place)
        try:
            place = memoryview(self.protocol.get_buffer(-1))
            if place.readonly:
                raise TypeError("get_buffer() returned a read-only buffer")
            if not place.c_contiguous:
                raise BufferError("get_buffer() returned a buffer with gaps")
            if not place.nbytes:
                raise RuntimeError("get_buffer() returned an empty buffer")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal error: protocol.get_buffer() call failed.")
            return NULL
        if not self.receiving or not self.buffered:
            return NULL         # get_buffer() thought better of it
        self.place = place
        size[0] = PyMemoryView_GET_BUFFER(place).len
        return <char *> PyMemoryView_GET_BUFFER(place).buf

    cdef object take(self, const char *data, Py_ssize_t size):
        """What was received, as bytes: copied where it is little, else received into them."""
        cdef PyObject *received
        if self.place is None:
            self.own_buffer = size >= BULK // 8
            return PyBytes_FromStringAndSize(data, size)
        received = <PyObject *> self.place
        Py_INCREF(<object> received)
        self.place = None
        self.own_buffer = size >= BULK // 8
        _PyBytes_Resize(&received, size)
        return take_over(received)

    cdef int received(self, const char *data, Py_ssize_t size) except -1:
        if size > 0:
            try:
                if self.buffered:
                    self.place = None
                    self.protocol.buffer_updated(size)
                else:
                    self.protocol.data_received(self.take(data, size))
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._fatal_error(
                    error, "Fatal error: protocol.buffer_updated() call failed."
                    if self.buffered else
                    "Fatal error: protocol.data_received() call failed.")
            return 0
        self.place = None
        if size == 0:
            self.receive_end()
        elif size != -EAGAIN:
            self._fatal_error(error_of(size), "Fatal read error on socket transport")
        return 0

    cdef int receive_end(self) except -1:
        self.told_end = self.protocol
        self.driver.stop_receiving(self)
        if self.loop._debug:
            logger.debug("%r received EOF", self)
        try:
            keep_open = self.protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal error: protocol.eof_received() call failed.")
            return 0
        if not keep_open:
            self.close()
        return self.let_go()

    cdef int let_go(self) except -1:
        """After the peer's end, with all sent, it is no more than what holds it."""
        if self.told_end is self.protocol and not (
                self.receiving or self.unsent.size or self.closing or self.lost):
            self.driver.set_aside(self)
        return 0

    # Writing

    def write(self, data):
        """Send a bytes-like object, in order, without waiting.

        What may be changed after the call is copied where the kernel does not take it.
        """
        check_bytes(data)
        if not self.can_write():
            return
        if type(data) is bytes:
            if len(<bytes> data):
                outgoing.append(&self.unsent, <bytes> data)
        else:
            self.append_foreign(data)
        self.written()

    def writelines(self, list_of_data):
        """Send several bytes-like objects, in one system call where they fit, unjoined."""
        pieces = list(list_of_data)
        for piece in pieces:
            check_bytes(piece)
        if not self.can_write():
            return
        for piece in pieces:
            if len(piece):
                outgoing.append(
                    &self.unsent, <bytes> piece if type(piece) is bytes else bytes(piece))
        self.written()

    cdef bint can_write(self) except -1:
        if self.eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        if self.lost:
            if self.lost >= TOLD_OFTEN_ENOUGH:
                logger.warning("socket.send() raised exception.")
            self.lost += 1
            return False
        return True

    cdef int append_foreign(self, object data) except -1:
        """Memory that its owner may change: offered now where it is large, else copied."""
        cdef Py_buffer view
        cdef Py_ssize_t taken = 0
        if isinstance(data, memoryview) and not data.c_contiguous:
            data = data.tobytes()
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if view.len > AT_ONCE and self.unsent.size == 0:
                taken = self.driver.send_now(self, <const char *> view.buf, view.len)
                if taken < 0:
                    self.sent(taken)
                    return 0
            if taken < view.len:
                outgoing.append(
                    &self.unsent,
                    PyBytes_FromStringAndSize(<char *> view.buf + taken, view.len - taken))
        finally:
            PyBuffer_Release(&view)
        return 0

    cdef int written(self) except -1:
        if self.unsent.size == 0:
            return 0
        if self.unsent.size > min(self.marks.high, AT_ONCE) or not self.loop.in_turn():
            self.driver.flush_now(self)
            if not self.lost:
                flow.pause_if_high(
                    &self.marks, self.unsent.size, self.loop, self, self.protocol)
        # What flush_now() could not send is blocked: queue() then does nothing.
        if self.unsent.size:
            self.driver.queue(self)
        return 0

    cdef int outgoing(self, iovec *pieces, int limit) noexcept:  # no-cython-lint
        return outgoing.pieces_of(&self.unsent, pieces, limit)

    cdef int sent(self, Py_ssize_t size) except -1:
        if size < 0:
            self._fatal_error(error_of(size), "Fatal write error on socket transport")
            return 0
        outgoing.consume(&self.unsent, size)
        flow.resume_if_low(&self.marks, self.unsent.size, self.loop, self, self.protocol)
        if self.unsent.size or self.lost:
            return 0
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)
        if self.closing:
            self.finish(None)
        elif self.eof:
            self.shut_down()
        return self.let_go()

    def write_eof(self):
        """Half-close: the peer sees the end when all that was written is sent."""
        if self.closing or self.eof:
            return
        self.eof = True
        if self.unsent.size == 0:
            self.shut_down()

    cdef int shut_down(self) except -1:
        if self.loop.abandoned:
            return 0            # by a fork: the connection is the parent's
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._fatal_error(error, "Fatal write error on socket transport")
        return 0

    def can_write_eof(self):
        """True: sockets can be half-closed."""
        return True

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

    # What asyncio's own code looks for

    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE
    _start_tls_compatible = True

    def get_extra_info(self, name, default=None):
        """socket, sockname, peername, and what the maker of the transport added."""
        if self.extra is None and name not in ("socket", "sockname", "peername"):
            return default      # asked of every connection: "sslcontext"
        return self._extra.get(name, default)

    @property
    def _extra(self):
        if self.extra is None or "socket" not in self.extra:
            info = {"peername": self.peername, "sockname": None, "socket": None}
            if self.sock is not None:
                info["socket"] = trsock.TransportSocket(self.sock)
                try:
                    info["sockname"] = self.sock.getsockname()
                except OSError:
                    pass
            if self.extra is not None:
                info.update(self.extra)
            self.extra = info
        return self.extra

    def _make_empty_waiter(self):
        if self.empty_waiter is not None:
            raise RuntimeError("sendfile is in progress: await it before the next one")
        self.empty_waiter = self.loop.create_future()
        if self.unsent.size == 0:
            self.empty_waiter.set_result(None)
        return self.empty_waiter

    def _make_end_waiter(self):
        """A future that fails when the connection is lost; until it is reset, write() refuses."""
        self.empty_waiter = self.loop.create_future()
        return self.empty_waiter

    def _reset_empty_waiter(self):
        self.empty_waiter = None

    @property
    def _sock(self):
        return self.sock

    @property
    def _sock_fd(self):
        return -1 if self.sock is None else self.sock.fileno()

    @property
    def _loop(self):
        return self.loop

    @property
    def _protocol(self):
        return self.protocol

    @property
    def _paused(self):
        return self.paused

    @property
    def _protocol_paused(self):
        return self.marks.paused

    @property
    def _conn_lost(self):
        return self.lost


class StreamTransport(StreamEndpoint):
    """A connected TCP or Unix stream socket as an asyncio.Transport (PEP 3156).

    Attributes can be set on it, which costs nothing where nobody does.
    """

    __slots__ = ("__dict__", "__weakref__")
