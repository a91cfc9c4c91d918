"""An asyncio event loop with an engine of its own, and what stands on it.

- Names are loaded when they are asked for: who wants the loop does not pay for the servers, and
  pytest, which looks at the plugin of every installed package, for none of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from neverblock import multiplexers as multiplexers
    from neverblock.loop import Loop as Loop
    from neverblock.loop import new_event_loop as new_event_loop
    from neverblock.loop import run as run
    from neverblock.policy import EventLoopPolicy as EventLoopPolicy
    from neverblock.policy import install as install
    from neverblock.servers import Server as Server
    from neverblock.servers import serve as serve
    from neverblock.watch import Watch as Watch
    from neverblock.watch.guard import Guard as Guard
    from neverblock.watch.guard import allow_blocking as allow_blocking

    __version__: str

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

#: The module of each name.
HOMES: Final = {
    "EventLoopPolicy": "policy",
    "Guard": "watch.guard",
    "Loop": "loop",
    "Server": "servers",
    "Watch": "watch",
    "allow_blocking": "watch.guard",
    "install": "policy",
    "new_event_loop": "loop",
    "run": "loop",
    "serve": "servers",
}
#: Modules that may be named without being imported.
MODULES: Final = ("errors", "loop", "multiplexers")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("neverblock")
    elif name in HOMES:
        value = getattr(import_module(f"neverblock.{HOMES[name]}"), name)
    elif name in MODULES:
        value = import_module(f"neverblock.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
