"""A server beside the program: in a thread of this process, or in a process of its own.

Whatever goes wrong before connections are accepted is raised by ``start``, afterwards by ``stop``.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from neverblock.servers.handler import AnyHandler
from neverblock.servers.running import Ready, serve_until
from neverblock.servers.settings import Settings
from neverblock.servers.shutdown import Stop

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

#: Serves until a signal; how many connections were reset.
Run: TypeAlias = Callable[[Ready], int]


class InThread:
    """A server in a thread."""

    def __init__(
        self,
        new_event_loop: Callable[[], asyncio.AbstractEventLoop],
        handler: AnyHandler | str,
        binds: Sequence[str],
        settings: Settings,
    ) -> None:
        self.urls: tuple[str, ...] = ()
        self._new_event_loop = new_event_loop
        self._handler = handler
        self._binds = binds
        self._settings = settings
        self._stop = Stop()
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._reset: Future[int] = Future()
        self._thread = threading.Thread(target=self._work, name="neverblock server", daemon=True)

    def start(self) -> None:
        """Return when connections are accepted."""
        self._thread.start()
        self._loop.result()

    def stop(self) -> int:
        """Drain; how many connections were reset. Raises what ended it before."""
        with suppress(RuntimeError):  # Its loop is closed: what ended it is raised below.
            self._loop.result().call_soon_threadsafe(self._stop.request, "the program")
        self._thread.join()
        return self._reset.result()

    def _work(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._new_event_loop) as runner:
                reset = runner.run(self._serve())
        except BaseException as error:
            (self._reset if self._loop.done() else self._loop).set_exception(error)
        else:
            self._reset.set_result(reset)

    async def _serve(self) -> int:
        def ready(urls: tuple[str, ...], backend: str) -> None:
            self.urls = urls
            self._loop.set_result(asyncio.get_running_loop())

        return await serve_until(self._stop, self._handler, self._binds, self._settings, ready)


class InProcess:
    """A server in a child process, with the memory of this one as it is at ``start``."""

    def __init__(self, run: Run) -> None:
        import multiprocessing  # Few servers need it, and it is not small.

        self.urls: tuple[str, ...] = ()
        context = multiprocessing.get_context("fork")
        self._reports, reporting = context.Pipe(duplex=False)
        self._reporting = reporting
        self._process = context.Process(target=report_from, args=(run, reporting))

    def start(self) -> None:
        """Return when connections are accepted."""
        self._process.start()
        self._reporting.close()
        try:
            urls = self._report()
        except BaseException:
            self._reports.close()
            raise
        assert isinstance(urls, tuple)
        self.urls = urls

    def stop(self) -> int:
        """Drain; how many connections were reset."""
        self._process.terminate()
        try:
            reset = self._report()
        finally:
            self._process.join()
            self._reports.close()
        assert isinstance(reset, int)
        return reset

    def _report(self) -> object:
        try:
            report = self._reports.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"the server's process ended with exit code {self._process.exitcode}"
            ) from None
        if isinstance(report, BaseException):
            self._process.join()
            raise report
        return report


def report_from(run: Run, reporting: "Connection[object, object]") -> None:
    """In the child: send the URLs, then how many connections were reset, or what went wrong."""
    try:
        reporting.send(run(lambda urls, backend: reporting.send(urls)))
    except BaseException as error:
        reporting.send(error)
