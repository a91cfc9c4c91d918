"""The loops under comparison: how each is made, and why one is not available."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import platform
from collections.abc import Callable
from functools import partial
from types import ModuleType

from bench.errors import Unsupported

Factory = Callable[[], asyncio.AbstractEventLoop]

OURS = "neverblock"
C_SERVER = "C"
PEERS = ("uvloop", "rloop")
LOOPS = ("asyncio", *PEERS, OURS)
#: After the name of a loop of ours: with the watch on.
WATCHED = "+watch"
#: After the name of any loop: strict, and not watched.
GUARDED = "+guard"


def factory(name: str) -> Factory:
    """The zero-argument factory of a loop.

    `name` is one of `LOOPS`, any other module that has `new_event_loop`, or `neverblock:BACKEND`
    for one backend of ours; with `WATCHED` behind it ours is watched, with `GUARDED` any is strict.
    Raises `Unsupported` with the reason where it cannot be had.
    """
    name, guarded, _ = name.partition(GUARDED)
    if guarded:
        guard_all()
    name, watched, _ = name.partition(WATCHED)
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    module_name, _, backend = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise Unsupported(f"{module_name} cannot be imported ({error})") from None
    if backend:
        if not hasattr(module, "Loop"):
            raise Unsupported(f"{module_name} {version(name)} has no Loop to choose a backend of")
        return partial(module.Loop, backend=backend, **watch(module, bool(watched)))
    if not hasattr(module, "new_event_loop"):
        raise Unsupported(f"{module_name} {version(name)} has no new_event_loop")
    if watched:
        return partial(module.Loop, **watch(module, True))
    return module.new_event_loop


def guard_all() -> None:
    """Make all loops of this process strict: for uvloop and rloop before they are imported."""
    import neverblock
    from neverblock.watch.everywhere import every_loop

    every_loop(neverblock.Guard())


def watch(module: ModuleType, wanted: bool) -> dict[str, object]:
    """The arguments of a loop of ours that is watched, or not."""
    if not wanted:
        return {}
    try:
        return {"watch": module.Watch()}
    except RuntimeError as error:
        raise Unsupported(str(error)) from None


def version(name: str) -> str:
    """The version of a loop's package; for asyncio, Python's."""
    if name == "asyncio":
        return platform.python_version()
    try:
        return importlib.metadata.version(name.partition(":")[0])
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
