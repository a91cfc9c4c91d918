"""An asyncio event loop with an engine of its own, and what stands on it."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from neverblock import multiplexers
from neverblock.loop import Loop, new_event_loop, run

if TYPE_CHECKING:
    from neverblock.policy import EventLoopPolicy as EventLoopPolicy
    from neverblock.policy import install as install

__all__ = [
    "EventLoopPolicy",
    "Loop",
    "__version__",
    "install",
    "multiplexers",
    "new_event_loop",
    "run",
]

__version__ = version("neverblock")


def __getattr__(name: str) -> Any:
    # Policies are deprecated in 3.14 and gone in 3.16: asked for, not imported.
    if name in ("EventLoopPolicy", "install"):
        from neverblock import policy

        return getattr(policy, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
