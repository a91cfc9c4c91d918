"""What the system allows a server: descriptors, and connections that wait to be accepted.

Descriptors are the process's, so its soft limit is raised here as far as the server needs it; the
hard limit is the administrator's, and is never touched (getrlimit(2)).
"""

import logging
import resource
from dataclasses import replace
from pathlib import Path

from neverblock import multiplexers
from neverblock.errors import SettingsError
from neverblock.servers.settings import Settings

logger = logging.getLogger("neverblock.server")

#: Descriptors that are no connections: listening sockets, the loop's own, files of the handler.
RESERVE = 64

#: Connections that may wait for one socket at most (listen(2)).
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")

#: Models whose process that accepts keeps no more than a descriptor of its connections.
SPARING = ("iterative", "process")


def fitted(settings: Settings, backend: str) -> Settings:
    """The settings, with a bound that can be had where none was asked for.

    ``backend`` is what the loop model waits with; anything for the other models. Raises
    SettingsError for a bound that was asked for and cannot be had.
    """
    watchable = limit_of(backend) if settings.model == "loop" else None
    # Where none was asked for, what is over is closed, and told: nobody waits for a limit unseen.
    if watchable is not None and settings.max_connections is not None:
        reason = f"{backend} can watch no more than {watchable}"
        settings = within(settings, watchable, reason, "choose the backend epoll or poll")
    hard = hard_limit()
    needed = needed_descriptors(settings)
    if hard is not None and needed is not None:
        reason = f"the hard limit of this process is {hard}"
        cure = f"raise it: ulimit -Hn {needed} (LimitNOFILE={needed} in a systemd unit)"
        settings = within(settings, hard, reason, cure)
    return settings


def within(settings: Settings, limit: int, reason: str, cure: str) -> Settings:
    """The settings, with a bound that a limit of descriptors allows. Raises SettingsError."""
    needed = needed_descriptors(settings)
    if needed is not None and needed <= limit:
        return settings
    most = max(0, limit - RESERVE) * max(1, settings.workers)
    if settings.max_connections is None and most > 0:
        logger.info("no more than %d connections at once: %s; %s", most, reason, cure)
        return replace(settings, max_connections=most)
    raise SettingsError(
        "max_connections",
        f"{settings.bound or 1} connections need {needed or RESERVE + 1} descriptors, and "
        f"{reason}; " + (f"ask for {most} at most, or {cure}" if most > 0 else cure),
    )


def raise_descriptor_limit(settings: Settings) -> None:
    """Let this process have the descriptors it needs; all it may have, where there is no bound."""
    if settings.model in SPARING:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = needed_descriptors(settings)
    wanted = hard if needed is None else needed
    if soft == resource.RLIM_INFINITY or (wanted != resource.RLIM_INFINITY and wanted <= soft):
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        # Not every system takes "no limit" for a number of descriptors.
        logger.warning("the limit of %d descriptors cannot be raised: %s", soft, error)


def warn_of_backlog(backlog: int) -> None:
    """The kernel makes less of a backlog than was asked for, and does not tell."""
    try:
        limit = int(SOMAXCONN.read_text())
    except (OSError, ValueError):
        return
    if backlog > limit:
        logger.warning(
            "a backlog of %d is above the system's limit of %d, and the kernel makes it that; "
            "raise the limit: sysctl -w net.core.somaxconn=%d",
            backlog,
            limit,
            backlog,
        )


def needed_descriptors(settings: Settings) -> int | None:
    """For each process of the server that serves connections; None: as many as there are."""
    if settings.model in SPARING:
        return 0
    if settings.bound is None:
        return None
    return -(-settings.bound // max(1, settings.workers)) + RESERVE


def hard_limit() -> int | None:
    """Descriptors that this process may have at most; None: no limit is known."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def limit_of(backend: str) -> int | None:
    """How many descriptors a multiplexer can watch; None: as many as there are."""
    if backend not in multiplexers.REGISTRY:
        return None  # A loop that is not ours.
    with multiplexers.create(backend) as multiplexer:
        return multiplexer.limit if multiplexer.limit >= 0 else None
