"""Serving: binds, a handler and a model, until a signal says stop."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import cast

from neverblock.servers.bounded import BoundedServer
from neverblock.servers.handler import MODELS, AnyHandler, Handler, check
from neverblock.servers.iterative import IterativeServer
from neverblock.servers.listen import Listener, listen
from neverblock.servers.loop import LoopServer
from neverblock.servers.pool import PoolServer
from neverblock.servers.process import ProcessServer
from neverblock.servers.shutdown import drain, stop_signals
from neverblock.servers.thread import ThreadServer

logger = logging.getLogger("neverblock.server")


#: Connections that the process and the thread model serve at once, if not told otherwise.
MAX_CONNECTIONS = 1024


async def serve(
    handler: AnyHandler,
    binds: str | Sequence[str],
    *,
    model: str = "loop",
    pool_size: int = 64,
    max_connections: int | None = None,
    backlog: int = 1024,
    drain_timeout: float = 10.0,
    listening: Callable[[str, str, str], None] | None = None,
) -> int:
    """Serve ``handler`` on ``binds`` under a model, until SIGTERM or SIGINT.

    ``pool_size`` is the number of threads of the pool model. ``max_connections`` bounds those
    accepted at once under the process and thread models (1024) and the pool model (twice its
    size); what is over waits in the kernel.

    Calls ``listening(url, model, backend)`` for each bind once connections are accepted. After
    the signal, open connections have ``drain_timeout`` seconds to finish; returns how many did
    not and were aborted. Raises BindError, HandlerError where the handler cannot run under the
    model, ValueError for a bound that the model cannot have. Runs in the main thread, which
    signals go to; a thread that is stuck after the drain is left behind.
    """
    check_bounds(model, pool_size, max_connections)
    check(handler, getattr(handler, "__qualname__", repr(handler)), model)
    binds = (binds,) if isinstance(binds, str) else binds
    with ExitStack() as open_listeners:
        listeners = [open_listeners.enter_context(listen(url, backlog)) for url in binds]
        server = create(handler, listeners, model, pool_size, max_connections, backlog)
        with stop_signals() as stop:
            await server.start()
            for listener in listeners:
                if listening is not None:
                    listening(listener.url, model, server.backend)
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


def check_bounds(model: str, pool_size: int, max_connections: int | None) -> None:
    """Raises ValueError, with the cure, for a bound that the model cannot have."""
    if pool_size < 1:
        raise ValueError(f"pool_size must be at least 1, not {pool_size}")
    if max_connections is None:
        return
    if max_connections < 1:
        raise ValueError(f"max_connections must be at least 1, not {max_connections}")
    if model in ("loop", "iterative"):
        reason = "serves one at a time" if model == "iterative" else "has no such bound yet"
        raise ValueError(
            f"max_connections is for the models process, thread and pool; the {model} model "
            f"{reason}: leave it out"
        )
    if model == "pool" and max_connections < pool_size:
        raise ValueError(
            f"max_connections {max_connections} would leave some of the {pool_size} threads of "
            f"the pool without work; make pool_size {max_connections} at most"
        )


def create(
    handler: AnyHandler,
    listeners: list[Listener],
    model: str,
    pool_size: int,
    max_connections: int | None,
    backlog: int,
) -> LoopServer | BoundedServer:
    """A server of that model, in the running loop. Raises ValueError for an unknown one."""
    match model:
        case "loop":
            return LoopServer(cast("Handler", handler), listeners, backlog)
        case "iterative":
            return IterativeServer(handler, listeners)
        case "process":
            return ProcessServer(handler, listeners, max_connections or MAX_CONNECTIONS)
        case "thread":
            return ThreadServer(handler, listeners, max_connections or MAX_CONNECTIONS)
        case "pool":
            return PoolServer(handler, listeners, pool_size, max_connections or 2 * pool_size)
    raise ValueError(f"no model {model!r}; choose one of {', '.join(MODELS)}")
