"""An asyncio event loop with an engine of its own, and what stands on it."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from neverblock import multiplexers
from neverblock.loop import Loop, new_event_loop, run

if TYPE_CHECKING:
    from neverblock.policy import EventLoopPolicy as EventLoopPolicy
    from neverblock.policy import install as install
    from neverblock.servers import Server as Server
    from neverblock.servers import serve as serve
    from neverblock.watch import Watch as Watch
    from neverblock.watch.guard import Guard as Guard
    from neverblock.watch.guard import allow_blocking as allow_blocking

__all__ = [
    "EventLoopPolicy",
    "Guard",
    "Loop",
    "Server",
    "Watch",
    "__version__",
    "allow_blocking",
    "install",
    "multiplexers",
    "new_event_loop",
    "run",
    "serve",
]

__version__ = version("neverblock")


def __getattr__(name: str) -> Any:
    # Policies are deprecated in 3.14 and gone in 3.16: asked for, not imported.
    if name in ("EventLoopPolicy", "install"):
        from neverblock import policy

        return getattr(policy, name)
    # A program that only wants the loop does not pay for the servers.
    if name in ("Server", "serve"):
        from neverblock import servers

        return getattr(servers, name)
    # Nor for the watch.
    if name == "Watch":
        from neverblock.watch import Watch

        return Watch
    if name in ("Guard", "allow_blocking"):
        from neverblock.watch import guard

        return getattr(guard, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
