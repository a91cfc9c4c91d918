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


def fitted(settings: Settings, backend: str) -> Settings:
    """The settings, with a bound where the backend needs one. Raises SettingsError.

    ``backend`` is what the loop model waits with; anything for the other models.
    """
    watched = limit_of(backend) if settings.model == "loop" else None
    if settings.model == "loop" and settings.max_connections is None and watched is not None:
        settings = replace(settings, max_connections=share(watched - RESERVE, settings))
    needed = needed_descriptors(settings)
    if needed is None:
        return settings
    wanted = settings.bound
    if watched is not None and needed > watched:
        raise SettingsError(
            "max_connections",
            f"{wanted} connections need {needed} descriptors, and {backend} can watch no more "
            f"than {watched}; ask for {share(watched - RESERVE, settings)} at most, or for the "
            f"backend epoll or poll",
        )
    hard = hard_limit()
    if hard is not None and needed > hard:
        raise SettingsError(
            "max_connections",
            f"{wanted} connections need {needed} descriptors, and the hard limit of this process "
            f"is {hard}; ask for {share(hard - RESERVE, settings)} at most, or raise it: "
            f"ulimit -Hn {needed} (LimitNOFILE={needed} in a systemd unit)",
        )
    return settings


def raise_descriptor_limit(settings: Settings) -> int:
    """Let this process have the descriptors it needs, or all it may have; how many it has then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = needed_descriptors(settings)
    wanted = hard if needed is None else needed
    if soft != resource.RLIM_INFINITY and (wanted == resource.RLIM_INFINITY or soft < wanted):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            # Where "no limit" is not what the kernel means by it.
            logger.warning("the limit of %d descriptors cannot be raised: %s", soft, error)
        else:
            soft = wanted
    return soft


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
    """For one process of the server; None: as many as there are."""
    if settings.model == "process":
        return RESERVE  # The parent keeps none of a connection.
    if settings.bound is None:
        return None
    return -(-settings.bound // max(1, settings.workers)) + RESERVE


def share(descriptors: int, settings: Settings) -> int:
    """Connections of all processes together, where each can have so many."""
    return max(0, descriptors) * max(1, settings.workers)


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
