"""Multiplexers: one contract over select(2), poll(2), epoll(7), kqueue(2) and io_uring(7).

Each is a ``selectors.BaseSelector`` as well, for ``selectors`` code and asyncio's own
``SelectorEventLoop``. A new one is its file, a line in REGISTRY and a line in meson.build.
"""

import errno
from importlib import import_module
from platform import system
from typing import TYPE_CHECKING, Any, Final

from neverblock.multiplexers.base import Multiplexer
from neverblock.multiplexers.selector import Selector

if TYPE_CHECKING:
    from neverblock.multiplexers.epoll import Epoll as Epoll
    from neverblock.multiplexers.io_uring import IoUring as IoUring
    from neverblock.multiplexers.poll import Poll as Poll
    from neverblock.multiplexers.select import Select as Select

__all__ = ["REGISTRY", "Multiplexer", "Selector", "available", "create", "default"]

#: Backend, which is also the name of its module -> its class and where it is found. Best first.
REGISTRY: Final = {
    "epoll": ("Epoll", "Linux"),
    "kqueue": ("Kqueue", "BSD or macOS"),
    "io_uring": ("IoUring", "Linux"),
    "poll": ("Poll", "POSIX"),
    "select": ("Select", "POSIX"),
}


def available() -> dict[str, str | None]:
    """Every backend, best first: None where it can be used, else the reason why it cannot."""
    return {name: obstacle(name) for name in REGISTRY}


def default() -> tuple[str, str]:
    """The best backend that can be used, and why it is that one."""
    reasons: list[str] = []
    for name in REGISTRY:  # no further than needed: every new loop asks
        reason = obstacle(name)
        if reason is None:
            return name, ", ".join(reasons) or "the best there is"
        reasons.append(f"{name} {reason}")
    raise OSError(f"no multiplexer can be used: {', '.join(reasons)}")


def create(name: str) -> Selector:
    """A new multiplexer of that backend, to be closed by the caller.

    Raises ValueError for a backend that is unknown or cannot be used here.
    """
    reason = obstacle(name) if name in REGISTRY else "unknown"
    if reason is not None:
        usable = [name for name, reason in available().items() if reason is None]
        raise ValueError(f'backend "{name}": {reason}; use one of {", ".join(usable)}')
    return load(name)()


def obstacle(name: str) -> str | None:
    """Why a backend of REGISTRY cannot be used here; None: it can."""
    try:
        load(name)().close()
    except ModuleNotFoundError:
        return f"not on {system()} (needs {REGISTRY[name][1]})"
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # out of descriptors now says nothing of the backend
        return str(error)
    return None


def load(name: str) -> type[Selector]:
    loaded: type[Selector] = getattr(import_module(f"{__name__}.{name}"), REGISTRY[name][0])
    return loaded


def __getattr__(attribute: str) -> Any:
    # The classes, imported when asked for: not every system has every one.
    for name, (class_name, _) in REGISTRY.items():
        if class_name == attribute:
            try:
                return load(name)
            except ModuleNotFoundError:
                break
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")
