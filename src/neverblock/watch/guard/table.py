"""All blocking calls that the guard knows, and where to stand to notice them."""

import asyncio
import importlib
import os
import select
import selectors
import sys
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, WrapperDescriptorType
from typing import Any, Final

from neverblock.watch.guard import calls_files, calls_network, calls_threads, entries
from neverblock.watch.guard.call import Call

TABLE: Final[tuple[Call, ...]] = (
    *calls_threads.CALLS,
    *calls_files.CALLS,
    *calls_network.CALLS,
)

KINDS: Final = {
    "entry": entries.ASK,
    "lock": entries.LOCK,
    "shield": entries.SHIELD,
    "socket": entries.SOCKET,
    "wait": entries.WAIT,
}


#: Where the loops of asyncio wait: its own turn, and the selectors that this asks.
TURN: Final = getattr(vars(asyncio.BaseEventLoop)["_run_once"], "__code__", None)
SELECTORS: Final = [
    kind.__dict__["select"].__code__
    for kind in vars(selectors).values()
    if isinstance(kind, type) and isinstance(vars(kind).get("select"), FunctionType)
]


def scandir_iterator() -> object:
    with os.scandir() as iterator:
        return type(iterator)


#: Types that no module names.
UNNAMED: Final[dict[str, Callable[[], object]]] = {
    "select:poll": lambda: type(select.poll()),
    "posix:ScandirIterator": scandir_iterator,
}


def found(at: str) -> Any:
    """What ``module:name.name`` stands for; None where this Python or system does not have it, or
    where what stands there now is of another kind."""
    module, _, names = at.partition(":")
    first, _, rest = names.partition(".")
    try:
        thing = (
            UNNAMED[f"{module}:{first}"]()
            if f"{module}:{first}" in UNNAMED
            else getattr(importlib.import_module(module), first)
        )
        for name in rest.split(".") if rest else ():
            # Its own: what is inherited is another type's, with a row of its own.
            thing = vars(thing)[name]
    except Exception:  # What was put in the place of something may raise anything.
        return None
    return thing


def events() -> dict[str, Call]:
    """What is known of each audit event; of several names for one, the first."""
    wanted: dict[str, Call] = {}
    for call in TABLE:
        if call.how == "event":
            wanted.setdefault(call.at, call)
    return wanted


def standing() -> list[Call]:
    """Calls that are caught at what they are."""
    return [call for call in TABLE if call.how not in ("event", "through")]


def is_own(call: Call, thing: Any) -> bool:
    """Whether what was found for a call is the library's, not put in its place, as by a mock."""
    module, _, name = call.at.partition(":")
    if call.how == "body":
        return (
            isinstance(thing, FunctionType)
            and thing.__globals__ is vars(sys.modules[module])
            and thing.__code__.co_qualname == name
        )
    if call.how == "next":
        wrapper = vars(thing).get("__next__") if isinstance(thing, type) else None
        return isinstance(wrapper, WrapperDescriptorType) and is_of(thing, module)
    if isinstance(thing, MethodDescriptorType):
        owner: object = thing.__objclass__
    elif isinstance(thing, BuiltinFunctionType):
        owner = thing
    else:
        return False
    return is_of(owner, module) and thing.__name__ == name.rpartition(".")[2]


def is_of(thing: object, module: str) -> bool:
    """Whether a module made of C says that it is its own; of sqlite3 that is said as sqlite3."""
    return str(thing.__module__).lstrip("_") == module.lstrip("_")
