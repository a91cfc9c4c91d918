"""Running a handler's coroutine where there is no event loop.

It is driven by a single ``send(None)``: what its stream does is done when the call returns, so
there is nothing to wait for. Whatever does suspend needs an event loop, and is named.
"""

from collections.abc import Coroutine
from types import FrameType
from typing import Any

from neverblock.errors import EventLoopNeededError

#: What Python says where there is no loop, and what asyncio says where it did not ask.
NO_RUNNING_LOOP = "no running event loop"
MISSED = (
    NO_RUNNING_LOOP,
    "no current event loop",
    "inside a task",
    "parent task",
    "'NoneType' object has no attribute",
)


def drive(coroutine: Coroutine[Any, Any, None], model: str) -> None:
    """Run a handler's coroutine; where it suspends, EventLoopNeededError is raised in it."""
    try:
        coroutine.send(None)
        while True:
            coroutine.throw(EventLoopNeededError(model, *suspension(coroutine)))
    except StopIteration:
        return
    except (RuntimeError, AttributeError) as error:
        # Much of asyncio asks for the running loop before it suspends.
        needed = failed_without_loop(error)
        if needed is None or isinstance(error, EventLoopNeededError):
            raise
        raise EventLoopNeededError(model, *needed) from error


def suspension(coroutine: object) -> tuple[str, str]:
    """What a suspended coroutine awaits, and where."""
    frames: list[FrameType] = []
    awaited: object = coroutine
    while awaited is not None:
        for prefix, following in (("cr", "await"), ("gi", "yieldfrom"), ("ag", "await")):
            frame = getattr(awaited, f"{prefix}_frame", None)
            if frame is not None:
                frames.append(frame)
                awaited = getattr(awaited, f"{prefix}_{following}")
                break
        else:
            break
    what = frames[-1].f_code.co_name
    if awaited is not None:  # A future gives an iterator over itself.
        what = f"a {type(awaited).__name__.removesuffix('Iter')}"
    return described([(frame, frame.f_lineno) for frame in frames], what)


def failed_without_loop(error: Exception) -> tuple[str, str] | None:
    """What asked for an event loop in vain, and where; None if this error is of another kind."""
    frames: list[tuple[FrameType, int]] = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    message = str(error)
    if message != NO_RUNNING_LOOP and not (
        in_asyncio(frames[-1][0]) and any(words in message for words in MISSED)
    ):
        return None
    return described(frames, "the running loop")


def described(frames: list[tuple[FrameType, int]], what: str) -> tuple[str, str]:
    """The first call into asyncio (else ``what``), and the line it stands on; outermost first."""
    place, line = frames[0]
    for frame, number in frames:
        if in_asyncio(frame):
            what = f"asyncio.{frame.f_code.co_qualname}"
            break
        place, line = frame, number
    return what, f"{place.f_code.co_filename}:{line}"


def in_asyncio(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "asyncio"
