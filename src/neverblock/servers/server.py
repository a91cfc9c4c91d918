"""Serving: binds, a handler and a model, until a signal says stop."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from neverblock.servers.handler import Handler
from neverblock.servers.listen import listen
from neverblock.servers.loop import LoopServer
from neverblock.servers.shutdown import drain, stop_signals

logger = logging.getLogger("neverblock.server")


async def serve(
    handler: Handler,
    binds: Sequence[str],
    *,
    backlog: int = 1024,
    drain_timeout: float = 10.0,
    listening: Callable[[str, str, str], None] | None = None,
) -> int:
    """Serve ``handler`` on ``binds`` under the loop model, until SIGTERM or SIGINT.

    Calls ``listening(url, model, backend)`` for each bind once connections are accepted. After
    the signal, open connections have ``drain_timeout`` seconds to finish; returns how many did
    not and were aborted. Raises BindError. Runs in the main thread, which signals go to.
    """
    with ExitStack() as open_listeners:
        listeners = [open_listeners.enter_context(listen(url, backlog)) for url in binds]
        server = LoopServer(handler, listeners, backlog)
        with stop_signals() as stop:
            await server.start()
            for listener in listeners:
                if listening is not None:
                    listening(listener.url, "loop", server.backend)
            await stop.first.wait()
            aborted = await drain(server, drain_timeout, stop.second)
    if aborted:
        logger.warning(
            "%s: %d connection%s aborted",
            "second signal"
            if stop.second.is_set()
            else f"drain timeout of {drain_timeout:g} s is over",
            aborted,
            "" if aborted == 1 else "s",
        )
    return aborted
