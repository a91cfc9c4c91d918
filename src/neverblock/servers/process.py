"""The process model: the parent accepts, and forks a child per connection, up to a bound.

Who accepts: the parent. Who reads and waits: each connection's child, which ends with it. A child
has its own copy of the parent's memory from the moment of the fork: what it changes, nobody else
sees; what it breaks, nobody else suffers.

The parent must have no other threads when it forks: a child has only the one that forked, and a
lock that another held stays locked in it. A child never returns into the parent's loop, never
closes it (the kernel's side of it is shared), and leaves by os._exit.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from neverblock.servers.blocking import SocketStream, serve_stream
from neverblock.servers.bounded import BoundedServer, Connection, described
from neverblock.servers.handler import AnyHandler, StreamInfo
from neverblock.servers.listen import Address, Listener
from neverblock.servers.settings import Settings

logger = logging.getLogger("neverblock.server")

STOP = (signal.SIGTERM, signal.SIGINT)


class Child:
    """The process that serves a connection. Its number is its own until the parent reaped it."""

    def __init__(self, pid: int, peer: str) -> None:
        self.pid = pid
        self.peer = peer
        self.aborted = False

    def drain(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def abort(self, reason: str) -> None:
        # Its connection is reset by that: see SocketStream.reset_unless_closed.
        self.aborted = True
        os.kill(self.pid, signal.SIGKILL)


class ProcessServer(BoundedServer):
    """Accepts on listeners and forks a child for each connection."""

    def __init__(self, handler: AnyHandler, listeners: list[Listener], settings: Settings) -> None:
        super().__init__(handler, listeners, settings)
        self._children: list[Child] = []

    async def start(self) -> None:
        warn_of_threads("start threads in the handler, or serve with --model thread")
        self.loop.add_signal_handler(signal.SIGCHLD, self._reap)
        await super().start()

    async def wait_idle(self) -> None:
        await super().wait_idle()
        self.loop.remove_signal_handler(signal.SIGCHLD)

    def _begin(self, sock: socket.socket, scheme: str, address: Address) -> Child:
        info = described(sock, scheme, address, self.model)
        # Or what is still buffered would be written by the child once more.
        flush()
        # A signal for the child waits until the child can take it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
        try:
            pid = os.fork()
            if pid == 0:
                self._be_child(sock, info, mask)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        sock.close()
        child = Child(pid, info.peer)
        self._children.append(child)
        return child

    def _be_child(
        self, sock: socket.socket, info: StreamInfo, mask: set[int | signal.Signals]
    ) -> NoReturn:
        code = 1
        try:
            stream = SocketStream(sock, info, self.settings, self.tls)
            stream.reset_unless_closed()
            signal.set_wakeup_fd(-1)  # It is the parent's.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in STOP:
                signal.signal(number, lambda *_: stream.drain())
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            asyncio._set_running_loop(None)
            for listener in self._listeners:
                for listening in listener.sockets:
                    listening.close()  # Not the listener: a Unix path stays the parent's.
            serve_stream(self.handler, stream)
            code = 0
        except BaseException:
            logger.exception("process %d failed", os.getpid())
        finally:
            flush()
            os._exit(code)

    def _began(self, connection: Connection) -> None:
        super()._began(connection)
        self.handling(connection)  # The child cannot tell when its handshake is done.

    def _reap(self) -> None:
        running: list[Child] = []
        ended: list[Child] = []
        for child in self._children:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                running.append(child)
                continue
            ended.append(child)
            if status and not child.aborted:
                logger.error(
                    "process %d, which served %s, %s",
                    child.pid,
                    child.peer,
                    ending(status),
                    extra={"peer": child.peer},
                )
        self._children = running
        for child in ended:
            self._ended(child)


def warn_of_threads(cure: str) -> None:
    """Log that this process should not fork, if it should not."""
    if (others := threading.active_count() - 1) > 0:
        logger.warning(
            "%d other thread%s in the process that forks: a lock held there stays locked in a "
            "child; %s",
            others,
            " runs" if others == 1 else "s run",
            cure,
        )


def ending(status: int) -> str:
    """How a process ended, as wait(2) tells it."""
    if not os.WIFSIGNALED(status):
        return f"exited with {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    try:
        return f"died by {signal.Signals(number).name}"
    except ValueError:  # A real-time one, most of which have no name (signal(7)).
        return f"died by signal {number}"


def flush() -> None:
    """Write what was printed."""
    for file in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # Closed, or there is none.
            file.flush()
