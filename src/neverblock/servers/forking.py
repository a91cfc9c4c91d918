"""Starting workers, and hearing of their end: by a descriptor of the process, else by SIGCHLD.

The supervisor must have no other threads when it forks: see servers.process. A worker closes all
that its copy of the supervisor holds open: else a client of another worker would not see the end
of its connection, nor a worker the end of its supervisor.
"""

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from neverblock.servers.process import flush
from neverblock.servers.supervised import Worker

logger = logging.getLogger("neverblock.server")

#: Blocked while a worker is forked, until it can take them.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: What a worker does: with its end of the channel and the signals to block then; its exit code.
Work: TypeAlias = Callable[[socket.socket, set[int | signal.Signals]], int]


class Watch:
    """Every worker that has not ended. Calls ``died`` with one that has, and how: see wait(2)."""

    def __init__(self, died: Callable[[Worker, int], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.alive: dict[Worker, int] = {}
        """With the descriptor that tells of its end (pidfd_open(2)), -1 where there is none."""
        self._died = died

    def add(self, worker: Worker) -> None:
        """Wait for the end of one."""
        pidfd = -1
        try:
            pidfd = os.pidfd_open(worker.pid)
            self.loop.add_reader(pidfd, self._look, worker)
        except (AttributeError, OSError, ValueError):  # Not on this system, or not just now.
            if pidfd >= 0:
                os.close(pidfd)
            pidfd = -1
            self.loop.add_signal_handler(signal.SIGCHLD, self._look_at_all)
            self.loop.call_soon(self._look, worker)
        self.alive[worker] = pidfd

    def disown(self) -> None:
        """In a worker: close what tells of others."""
        for worker, pidfd in self.alive.items():
            worker.channel.sock.close()
            if pidfd >= 0:
                os.close(pidfd)
        self.alive.clear()

    def _look_at_all(self) -> None:
        for worker in list(self.alive):
            self._look(worker)

    def _look(self, worker: Worker) -> None:
        if worker not in self.alive:
            return
        try:
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
        except ChildProcessError:  # Somebody else has waited for it.
            pid, status = worker.pid, 0
        if pid == 0:
            return
        pidfd = self.alive.pop(worker)
        if pidfd >= 0:
            self.loop.remove_reader(pidfd)
            os.close(pidfd)
        self._died(worker, status)


def fork(slot: int, work: Work, arrived: Callable[[Worker], object]) -> Worker:
    """Start a worker. Not in a task: it would find itself within it. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        worker = Worker(slot, ours, arrived)
    except ValueError as error:  # The multiplexer has no room for it.
        ours.close()
        theirs.close()
        raise OSError(errno.EMFILE, str(error)) from None
    # Or what is still buffered would be written by the child once more.
    flush()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        worker.pid = os.fork()
        if worker.pid == 0:
            ours.close()
            be_worker(theirs, work, mask)
    except BaseException:
        worker.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
    return worker


def be_worker(sock: socket.socket, work: Work, mask: set[int | signal.Signals]) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)  # It is the supervisor's.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asyncio._set_running_loop(None)
        code = work(sock, mask)
    except BaseException:
        logger.exception("worker (pid %d) failed", os.getpid())
    finally:
        flush()
        os._exit(code)
