"""A server's life: listen, serve until told to stop, drain."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

from neverblock.servers import limits
from neverblock.servers.bounded import BoundedServer
from neverblock.servers.handler import AnyHandler
from neverblock.servers.iterative import IterativeServer
from neverblock.servers.listen import opened
from neverblock.servers.loop import LoopServer
from neverblock.servers.pool import PoolServer
from neverblock.servers.process import ProcessServer
from neverblock.servers.settings import Settings
from neverblock.servers.shutdown import Stop, drain
from neverblock.servers.thread import ThreadServer

logger = logging.getLogger("neverblock.server")

#: Called with the URL, the model and the backend of each bind once connections are accepted.
Listening: TypeAlias = Callable[[str, str, str], None]

SERVERS: dict[str, type[BoundedServer]] = {
    "loop": LoopServer,
    "iterative": IterativeServer,
    "process": ProcessServer,
    "thread": ThreadServer,
    "pool": PoolServer,
}


async def serve_until(
    stop: Stop,
    handler: AnyHandler,
    binds: Sequence[str],
    settings: Settings,
    listening: Listening | None = None,
) -> int:
    """Serve until ``stop``, then drain; how many connections had to be reset.

    Raises BindError, and SettingsError for more than the system allows.
    """
    backend = str(getattr(asyncio.get_running_loop(), "backend", ""))
    settings = limits.fitted(settings, backend)
    limits.raise_descriptor_limit(settings)
    limits.warn_of_backlog(settings.backlog)
    with opened(binds, settings) as listeners:
        server = SERVERS[settings.model](handler, listeners, settings)
        await server.start()
        for listener in listeners:
            if listening is not None:
                listening(listener.url, settings.model, server.backend)
        await stop.first.wait()
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
