"""What a program calls to serve: ``await serve(…)`` in its loop, or a Server of its own."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import fields
from types import TracebackType
from typing import Self, TypeAlias, Unpack

from neverblock import Loop
from neverblock.errors import SettingsError
from neverblock.servers.background import InProcess, InThread
from neverblock.servers.handler import AnyHandler, check
from neverblock.servers.running import Ready, serve_until
from neverblock.servers.settings import WATCH, Options, Settings
from neverblock.servers.shutdown import stop_signals
from neverblock.servers.target import load
from neverblock.servers.tls.context import context_of

#: Called with the URL, the model and the backend of each listener once connections are accepted.
Listening: TypeAlias = Callable[[str, str, str], None]


async def serve(
    handler: AnyHandler | str,
    binds: str | Sequence[str],
    *,
    listening: Listening | None = None,
    **options: Unpack[Options],
) -> int:
    """Serve ``handler`` on ``binds`` until SIGTERM or SIGINT; ``options`` are those of Settings.

    A handler may be named, as for ``neverblock serve``; workers then import it, and SIGHUP lets
    them do so anew.

    Calls ``listening(url, model, backend)`` for each bind once connections are accepted. After
    the signal, open connections have ``drain_timeout`` seconds to finish; returns how many did
    not and were reset. Raises BindError, HandlerError where the handler cannot run under the
    model, SettingsError for options that cannot be had, among them, without workers, those of the
    watch: the loop has one already, or has none. Runs in the main thread, which signals go to; a
    thread that is stuck after the drain is left behind.
    """
    refuse_a_watch(options)
    settings = Settings(**options)
    handler = found(handler, settings)
    with stop_signals() as stop:
        ready = told(listening, settings.model)
        return await serve_until(stop, handler, urls(binds), settings, ready)


class Server:
    """A server with a loop of its own, on any backend; ``options`` are those of Settings.

    The handler is a function, or the name of one: see ``serve``. ``run`` serves until a signal
    says stop. As a context manager, made for tests, it serves beside the program: in a thread; in
    a process of its own where it forks (process model, workers).

    Raises HandlerError where the handler cannot run under the model, SettingsError for options
    that cannot be had.
    """

    def __init__(
        self,
        handler: AnyHandler | str,
        binds: str | Sequence[str] = "tcp://127.0.0.1:0",
        *,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.settings = Settings(**options)
        self._handler = found(handler, self.settings)
        # Here, and not where workers or a thread would find it out.
        context_of(self.settings)
        _ = self.settings.watch
        self._binds = urls(binds)
        self._backend = backend
        self._beside: InThread | InProcess | None = None

    def run(self, *, listening: Listening | None = None) -> int:
        """Serve until SIGTERM or SIGINT: see ``serve``, also for what is returned and raised."""
        return self._run(told(listening, self.settings.model))

    def _run(self, ready: Ready) -> int:
        async def until_signal() -> int:
            with stop_signals() as stop:
                return await serve_until(stop, self._handler, self._binds, self.settings, ready)

        with asyncio.Runner(loop_factory=self._new_event_loop) as runner:
            return runner.run(until_signal())

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it listens, within ``with``: the binds, with the ports that the kernel chose."""
        if self._beside is None:
            raise RuntimeError("it does not serve yet; enter `with server:` first")
        return self._beside.urls

    @property
    def url(self) -> str:
        """The first of them."""
        return self.urls[0]

    def __enter__(self) -> Self:
        """Return when connections are accepted. Raises BindError."""
        if self._beside is not None:
            raise RuntimeError("it serves already; make another Server")
        beside: InThread | InProcess
        if self.settings.model == "process" or self.settings.workers:
            beside = InProcess(self._run)
        else:
            beside = InThread(self._new_event_loop, self._handler, self._binds, self.settings)
        beside.start()
        self._beside = beside
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drain, as after a signal; return when it is over."""
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.stop()

    def _new_event_loop(self) -> asyncio.AbstractEventLoop:
        # A supervisor runs no handler, and forks, which wants no other thread.
        watch = None if self.settings.workers else self.settings.watch
        return Loop(self._backend, watch=watch)


def refuse_a_watch(options: Options) -> None:
    """Raises SettingsError for what a loop that runs already would not be given."""
    if options.get("model", "loop") != "loop" or options.get("workers"):
        return
    for each in fields(Settings):
        if each.name in WATCH and options.get(each.name, each.default) != each.default:
            raise SettingsError(
                each.name,
                "the loop that runs has the watch it was made with, or none; make it with one, "
                "neverblock.run(…, watch=neverblock.Watch(…)), or let neverblock.Server make it",
            )


def told(listening: Listening | None, model: str) -> Ready:
    """Tells ``listening``, if anybody, of each listener."""

    def ready(urls: tuple[str, ...], backend: str) -> None:
        for url in urls:
            if listening is not None:
                listening(url, model, backend)

    return ready


def urls(binds: str | Sequence[str]) -> tuple[str, ...]:
    return (binds,) if isinstance(binds, str) else tuple(binds)


def found(handler: AnyHandler | str, settings: Settings) -> AnyHandler | str:
    """The handler that can run under these settings; a name, if workers are to import it."""
    if not isinstance(handler, str):
        return check(handler, getattr(handler, "__qualname__", repr(handler)), settings)
    return handler if settings.workers else load(handler, settings)
