"""The event loop: our engine in front of asyncio's own set-up.

Servers, name resolution, subprocesses, TLS, executors and exception handling are
asyncio's; scheduling, descriptors and stream transports are the engine's.

- The loop is one thread's and one process's: in a forked child it is closed at once,
  with nothing done to the kernel objects that the parent goes on using.
"""

import asyncio
import contextvars
import errno
import os
import signal
import socket
import sys
import threading
import weakref
from asyncio import constants, events, trsock
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from neverblock import multiplexers
from neverblock._compat import serving_context
from neverblock.engine import collect as collect
from neverblock.engine.engine import Engine
from neverblock.engine.pipe import ReadPipeTransport, WritePipeTransport
from neverblock.engine.stream import StreamTransport
from neverblock.errors import DescriptorLimitError

#: accept(2) fails with these when the process or the system has run out of something.
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Watcher(Protocol):
    """What watches one loop: told of the thread that runs it, and of the loop's end."""

    def enter(self) -> None: ...
    def leave(self) -> None: ...
    def stop(self) -> None: ...


class Watch(Protocol):
    """Makes a watcher for a loop: neverblock.Watch."""

    def attach(self, loop: "Loop") -> Watcher: ...


class Loop(Engine, asyncio.SelectorEventLoop):
    """An asyncio event loop on a multiplexer chosen by name.

    backend: "epoll", "kqueue", "io_uring", "poll" or "select"; None: NEVERBLOCK_BACKEND from
    the environment, else the best there is. Raises ValueError for one that cannot be used.
    watch: tells which line blocks the loop, a neverblock.Watch; None: nobody watches.
    """

    def __init__(self, backend: str | None = None, *, watch: Watch | None = None) -> None:
        if backend is not None:
            reason = "asked for"
        elif backend := os.environ.get("NEVERBLOCK_BACKEND"):
            reason = "NEVERBLOCK_BACKEND"
        else:
            backend, reason = multiplexers.default()
        #: What waits for descriptors, and why that and nothing better.
        self.backend = backend
        self.backend_reason = reason
        multiplexer = multiplexers.create(backend)
        self._watched_by: Watcher | None = None
        self._troubled: set[socket.socket] = set()  # listening, and has told why it refuses
        self._lent: set[int] = set()
        Engine.__init__(self, multiplexer)
        try:
            asyncio.SelectorEventLoop.__init__(self, multiplexer)
        except BaseException:
            self._closed = True  # half made: close() would not find what it closes
            self._stop_listening()
            multiplexer.close()
            raise
        if watch is not None:
            self._watched_by = watch.attach(self)
        alive.add(self)

    # A run

    def run_forever(self) -> None:
        """Take turns until stop() is called. Raises RuntimeError where one runs already."""
        self._check_closed()
        self._check_running()
        self._set_coroutine_origin_tracking(self._debug)
        hooks = sys.get_asyncgen_hooks()
        heeds_signals = self._heed_signals()
        try:
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
            )
            events._set_running_loop(self)
            if self._watched_by is not None:
                self._watched_by.enter()
            self._spin()
        finally:
            if self._watched_by is not None:
                self._watched_by.leave()
            self._stopping = False
            self._thread_id = None
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*hooks)
            if heeds_signals and not self._signal_handlers:
                descriptor = signal.set_wakeup_fd(-1)
                if descriptor != self._csock.fileno():  # somebody else's by now
                    signal.set_wakeup_fd(descriptor)

    def _heed_signals(self) -> bool:
        # A signal that comes between the last bytecode and the wait would only be seen
        # after it: the C handler's byte ends the wait. Not where somebody else uses it.
        if threading.current_thread() is not threading.main_thread():
            return False
        try:
            before = signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        except ValueError:  # a subinterpreter
            return False
        if before in (-1, self._csock.fileno()):
            return True
        signal.set_wakeup_fd(before)
        return False

    def close(self) -> None:
        """Close; what is queued is dropped. Raises RuntimeError while it runs."""
        if self.is_closed():
            return
        super().close()
        self._discard()
        if self._watched_by is not None:
            self._watched_by.stop()
        alive.discard(self)

    def _make_self_pipe(self) -> None:
        self._ssock, self._csock = socket.socketpair()
        self._ssock.setblocking(False)
        self._csock.setblocking(False)
        self._internal_fds += 1
        try:
            self._listen(self._ssock.fileno())
        except BaseException:
            self._ssock.close()
            self._csock.close()
            raise

    def _close_self_pipe(self) -> None:
        self._stop_listening()
        self._ssock.close()
        self._csock.close()
        self._ssock = self._csock = None  # type: ignore[assignment]
        self._internal_fds -= 1

    def _check_closed(self) -> None:
        Engine._check_closed(self)

    # Transports

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        number = fd
        if not isinstance(number, int):
            try:
                number = int(fd.fileno())
            except (AttributeError, TypeError, ValueError):
                raise ValueError(f"Invalid file object: {fd!r}") from None
        transport = self._transport_of(number) or self._transports.get(number)
        if transport is not None and number not in self._lent and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        *,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        context: contextvars.Context | None = None,
    ) -> StreamTransport:
        self._ensure_fd_no_transport(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            set_nodelay(sock)
        return StreamTransport(self, sock, protocol, waiter, extra, server, context)

    async def _create_connection_transport(
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> Any:
        # Refused before asyncio takes it: what it fails to start it closes, from 3.14 on.
        with suppress(ValueError):  # no socket at all: asyncio tells so
            self._ensure_fd_no_transport(sock)
        return await super()._create_connection_transport(sock, *args, **kwargs)  # type: ignore[misc]

    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
    ) -> ReadPipeTransport:
        return ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
    ) -> WritePipeTransport:
        return WritePipeTransport(self, pipe, protocol, waiter, extra)

    async def _sendfile_native(
        self, transport: StreamTransport, file: Any, offset: int, count: int | None
    ) -> int:
        descriptor = transport._sock_fd
        written = transport._make_empty_waiter()  # refuses where a file is being sent already
        resume = transport.is_reading()
        transport.pause_reading()
        try:
            await written
            self._lent.add(descriptor)
            transfer = self.create_task(
                self.sock_sendfile(transport._sock, file, offset, count, fallback=False)
            )
            return await self._until_lost(transfer, transport._make_end_waiter())
        finally:
            self._lent.discard(descriptor)
            transport._reset_empty_waiter()
            if resume:
                transport.resume_reading()

    async def _until_lost(self, transfer: "asyncio.Task[int]", lost: "asyncio.Future[None]") -> int:
        # A transfer waits by number, and would not hear that its transport is gone.
        def end(lost: "asyncio.Future[None]") -> None:
            if not lost.cancelled() and lost.exception() is not None:
                transfer.cancel()

        lost.add_done_callback(end)
        try:
            return await transfer
        except asyncio.CancelledError:
            if lost.done():
                lost.result()
            raise
        finally:
            lost.cancel()

    # Servers

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: contextvars.Context | None = None,
    ) -> None:
        if sock.fileno() != -1:  # it may have been closed before accepting was tried again
            self._add_reader(
                sock,
                self._accept_connection,
                protocol_factory,
                sock,
                sslcontext,
                server,
                backlog,
                ssl_handshake_timeout,
                ssl_shutdown_timeout,
                *serving_context(context),
            )

    def _accept_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: contextvars.Context | None = None,
    ) -> None:
        # As many as may have queued up since the last readiness.
        for _ in range(backlog):
            try:
                connection, address = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                self._tell_once(
                    sock, "socket.accept() out of system resource; accepting pauses", error
                )
                self._remove_reader(sock.fileno())
                self.call_later(
                    constants.ACCEPT_RETRY_DELAY,
                    self._start_serving,
                    protocol_factory,
                    sock,
                    sslcontext,
                    server,
                    backlog,
                    ssl_handshake_timeout,
                    ssl_shutdown_timeout,
                    *serving_context(context),
                )
                return
            connection.setblocking(False)
            extra = {"peername": address}
            if sslcontext is not None:
                self._troubled.discard(sock)
                # From Python 3.15 on a server has a context, and its connections copies of it.
                own = {} if context is None else {"context": context.copy()}
                self.create_task(
                    self._accept_connection2(
                        protocol_factory,
                        connection,
                        extra,
                        sslcontext,
                        server,
                        ssl_handshake_timeout,
                        ssl_shutdown_timeout,
                        **own,
                    ),
                    **own,
                )
                continue
            try:
                # In a context of its own: what the factory sets is this connection's alone.
                (contextvars.copy_context() if context is None else context.copy()).run(
                    self._take_connection, protocol_factory, connection, extra, server
                )
            except (SystemExit, KeyboardInterrupt):
                connection.close()
                raise
            except DescriptorLimitError as error:
                connection.close()
                self._tell_once(sock, "connection refused", error)
                continue
            except BaseException as error:
                connection.close()
                if self._debug:
                    self.call_exception_handler(
                        {
                            "message": "Error on transport creation for incoming connection",
                            "exception": error,
                        }
                    )
            self._troubled.discard(sock)

    def _take_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        connection: socket.socket,
        extra: dict[str, Any],
        server: Any,
    ) -> None:
        self._make_socket_transport(connection, protocol_factory(), extra=extra, server=server)

    def _tell_once(self, sock: socket.socket, message: str, error: Exception) -> None:
        # Until a connection gets through again: a crowd at the door would flood the log.
        if sock not in self._troubled:
            self._troubled.add(sock)
            self.call_exception_handler(
                {
                    "message": message,
                    "exception": error,
                    "socket": trsock.TransportSocket(sock),
                }
            )

    def _stop_serving(self, sock: socket.socket) -> None:
        self._troubled.discard(sock)
        super()._stop_serving(sock)  # type: ignore[misc]


def set_nodelay(sock: socket.socket) -> None:
    """TCP_NODELAY: what is written leaves at once (tcp(7))."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def new_event_loop() -> Loop:
    """A new loop, not yet running."""
    return Loop()


def run(
    main: Coroutine[Any, Any, Any],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    debug: bool | None = None,
    watch: Watch | None = None,
    **run_kwargs: Any,
) -> Any:
    """Run a coroutine on a new loop and return its result, like asyncio.run (PEP 3156).

    ``watch`` is for the loop that is made; with a ``loop_factory`` it is TypeError: give it to
    the Loop there. Raises RuntimeError where a loop runs already.
    """
    if loop_factory is None:
        loop_factory = new_event_loop if watch is None else partial(Loop, watch=watch)
    elif watch is not None:
        raise TypeError("run() takes loop_factory or watch: let the factory make Loop(watch=…)")
    if events._get_running_loop() is not None:  # before a second loop is made
        raise RuntimeError("neverblock.run() cannot be called from a running event loop")
    with asyncio.Runner(loop_factory=loop_factory, debug=debug, **run_kwargs) as runner:
        return runner.run(main)


alive: "weakref.WeakSet[Loop]" = weakref.WeakSet()


def abandon_parents_loops() -> None:
    """In a forked child: the loops of the parent are not ours to use."""
    loops = list(alive)
    alive.clear()
    # The child's signals are not the parent's either, whose socket they would be written to.
    descriptor = signal.set_wakeup_fd(-1)
    if descriptor not in [loop._csock.fileno() for loop in loops]:
        signal.set_wakeup_fd(descriptor)
    for loop in loops:
        loop._abandon()


os.register_at_fork(after_in_child=abandon_parents_loops)
