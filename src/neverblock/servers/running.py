"""A server's life: listen, serve until told to stop, drain."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

from neverblock.servers import limits
from neverblock.servers.bounded import BoundedServer
from neverblock.servers.handler import AnyHandler
from neverblock.servers.iterative import IterativeServer
from neverblock.servers.listen import Listener, opened
from neverblock.servers.loop import LoopServer
from neverblock.servers.pool import PoolServer
from neverblock.servers.process import ProcessServer
from neverblock.servers.settings import Settings
from neverblock.servers.shutdown import Stop, drain
from neverblock.servers.thread import ThreadServer
from neverblock.servers.workers import Supervisor

logger = logging.getLogger("neverblock.server")

#: Called once, when connections are accepted: with the URL of each listener, and the backend.
Ready: TypeAlias = Callable[[tuple[str, ...], str], None]

SERVERS: dict[str, type[BoundedServer]] = {
    "loop": LoopServer,
    "iterative": IterativeServer,
    "process": ProcessServer,
    "thread": ThreadServer,
    "pool": PoolServer,
}


def create(
    handler: AnyHandler | str, listeners: list[Listener], settings: Settings
) -> BoundedServer:
    """The server of that model, in the running loop."""
    if settings.workers:
        return Supervisor(handler, listeners, settings)
    assert not isinstance(handler, str), "workers alone load it themselves"
    return SERVERS[settings.model](handler, listeners, settings)


async def serve_until(
    stop: Stop,
    handler: AnyHandler | str,
    binds: Sequence[str],
    settings: Settings,
    ready: Ready,
) -> int:
    """Serve until ``stop``, then drain; how many connections had to be reset.

    Workers import a handler that is named. Raises BindError, SettingsError for more than the
    system allows, with workers also HandlerError.
    """
    backend = str(getattr(asyncio.get_running_loop(), "backend", ""))
    settings = limits.fitted(settings, backend)
    limits.raise_descriptor_limit(settings)
    limits.warn_of_backlog(settings.backlog)
    with opened(binds, settings) as listeners:
        server = create(handler, listeners, settings)
        try:
            if not await started(server, stop):
                return 0
            ready(tuple(listener.url for listener in listeners), server.backend)
            await stop.first.wait()
        except BaseException:
            await drain(server, 0, stop.second)
            raise
        reset = await drain(server, settings.drain_timeout, stop.second)
    if reset:
        logger.warning(
            "%s: %d connection%s reset",
            "told to stop again"
            if stop.second.is_set()
            else f"drain timeout of {settings.drain_timeout:g} s is over",
            reset,
            "" if reset == 1 else "s",
            extra={"model": settings.model, "count": reset},
        )
    return reset


async def started(server: BoundedServer, stop: Stop) -> bool:
    """Start, unless told to stop before that is done."""
    starting = asyncio.ensure_future(server.start())
    stopping = asyncio.ensure_future(stop.first.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        starting.cancel()  # No more than a request: it ends what it began.
    try:
        await starting
    except asyncio.CancelledError:
        if not stop.first.is_set():
            raise
        return False
    return True
