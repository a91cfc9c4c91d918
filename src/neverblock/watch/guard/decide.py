"""Whether a call may be made, and the error where it may not.

- Called from the entry of the call itself, in the loop's thread, which asks nothing meanwhile.
- Cheapest first: whether it would wait at all, whether that is allowed, who calls.
"""

import sys
from asyncio import events
from types import FrameType
from typing import Any

from neverblock.errors import BlockingCallError
from neverblock.watch import stack
from neverblock.watch.guard import permission
from neverblock.watch.guard.call import LOOP, Call
from neverblock.watch.guard.callers import Caller, caller, taker
from neverblock.watch.guard.waits import GRACE


def ask(call: Call, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Raise BlockingCallError for a call that may not be made; whether a lock was had instead."""
    if not call.waits(self, args, kwargs):
        return False
    if events._get_running_loop() is None or permission.reason() is not None:
        return False
    frame = sys._getframe(1)
    if call.how == "body" and frame.f_back is not None:
        frame = frame.f_back  # Not ours, that asks.
    takes = "waits"
    if call.how == "lock" and not call.name.startswith("multiprocessing."):
        takes = taker(frame)
        if takes == "soon":
            return False
    found = caller(frame, call.name, args)
    if found.exempt:
        return False
    if takes == "may" and self.acquire(True, grace(args, kwargs)):
        return True
    raise error(call, args, found, frame)


def grace(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    timeout = args[1] if len(args) > 1 else kwargs.get("timeout", -1)
    return GRACE if timeout < 0 else min(GRACE, timeout)


def error(call: Call, args: tuple[Any, ...], found: Caller, frame: FrameType) -> BlockingCallError:
    call = meant(call, args)
    name, cure = call.name, call.instead(args)
    if found.called is not None and call.how != "body":
        named = public(*found.called)
        if named is not None:
            name, cure = named.name, named.instead()
        elif not internal(found.called[1]):
            name = ".".join(found.called)
            cure = LOOP if found.is_generator else f"await asyncio.to_thread({name}, …)"
    by = "" if name == call.name else call.name
    place = stack.own_line(stack.from_frame(frame, found.end))
    return BlockingCallError(name, by, str(place) if place is not None else "", cure)


def internal(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("."))


def meant(call: Call, args: tuple[Any, ...]) -> Call:
    """Of the calls that share an audit event the one that has such arguments."""
    from neverblock.watch.guard.table import TABLE

    sharing = (row for row in TABLE if row.how == call.how == "event" and row.at == call.at)
    return next(
        (row for row in sharing if row.meant is not None and row.meant(None, args, {})), call
    )


def public(module: str, name: str) -> Call | None:
    """The row of a function of the standard library, by what its frames say of it."""
    from neverblock.watch.guard.table import TABLE

    if module in ("genericpath", "posixpath"):
        module = "os.path"
    rows = {call.name: call for call in TABLE}
    if exact := rows.get(f"{module}.{name}") or rows.get(
        f"{module}.{name}".removesuffix(".__init__")
    ):
        return exact
    return next((call for call in TABLE if same(call, module, name)), None)


def same(call: Call, module: str, name: str) -> bool:
    """Whether a frame is that of the call, for all that it lies deeper than its public name.

    ``concurrent.futures.Future`` is in ``concurrent.futures._base``, ``multiprocessing.Process``
    a ``BaseProcess``.
    """
    package, *between = call.name.split(".")
    last = between[-1] if between else ""
    *kinds, function = name.split(".")
    if package != module.partition(".")[0] or last != function:
        return False
    kind = [package, *between][-2]
    if not kinds:
        return not kind[:1].isupper()
    return kind[:1].isupper() and (kind in kinds[-1] or kinds[-1] in kind)
