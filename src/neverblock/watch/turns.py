"""A turn of many callbacks: which functions took its time.

- What is known of it is the engine's, whose callbacks are timed from when the watch saw that the
  turn was long: `Stall.top` is of that part, `Stall.callbacks` of the whole turn.
- Of a task it is the coroutine's function; of a transport the protocol's method that takes data.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from types import CodeType
from typing import Any, Final, NamedTuple

from neverblock.engine.tally import Tally
from neverblock.watch import hints, stack
from neverblock.watch.stall import Cause, Place, Sample, Share, Stall

#: What Tally.read() returns.
Turn = dict[str, Any]

#: How many functions are told.
MOST: Final = 5
#: What a class is asked for that stands for its instances: protocols, then callables.
METHODS: Final = ("data_received", "buffer_updated", "datagram_received", "__call__")


class Told(NamedTuple):
    """A callback that has been told by itself."""

    began: float
    duration: float
    #: File and name, as in a Place; None where it has no Python code.
    function: tuple[str, str] | None


def known(tally: Tally, event: dict[str, Any]) -> Turn | None:
    """What the engine knows of an event's turn; what it knew of one that is over is let go."""
    found = tally.read(event["began"])
    if event["over"]:
        tally.forget(event["began"])
    return found


def stall(event: dict[str, Any], turn: Turn | None) -> Stall:
    """What is known of a turn that is long."""
    top = shares(turn)
    place = top[0].place if top else None
    return Stall(
        duration=length(event, turn),
        cause=Cause.TURN,
        place=place,
        source=stack.source(place) if place and place.line else "",
        hint=hints.hint("", Cause.TURN),
        cpu=event["cpu"],
        queued=event["queued"],
        callbacks=callbacks(event, turn),
        top=top,
        timed=timed(turn),
        samples=samples(top),
    )


def ended(began: Stall, event: dict[str, Any], turn: Turn | None) -> Stall:
    """The same when it is over; it stays with the function that it was told of first."""
    top = shares(turn)
    return replace(
        began,
        over=True,
        duration=length(event, turn),
        cpu=event["cpu"],
        queued=event["queued"],
        callbacks=max(callbacks(event, turn), began.callbacks),
        top=top or began.top,
        timed=timed(turn) if top else began.timed,
        samples=samples(top or began.top),
    )


def samples(top: Iterable[Share], told: Iterable[Told] = ()) -> tuple[Sample, ...]:
    """For what draws stacks: of a callback that was timed none is known but its function. What was
    told of callbacks by themselves is in stacks of their own."""
    found = (
        Sample((share.place,), share.count, share.total - sum(durations(share, told)))
        for share in top
    )
    return tuple(sample for sample in found if sample.seconds > 0)


def durations(share: Share, told: Iterable[Told]) -> list[float]:
    """Of those told that the share has: what was over before callbacks were timed is not in it."""
    function = share.place.file, share.place.function
    return [
        each.duration
        for each in told
        if each.function == function and each.duration <= 2 * share.longest
    ]


def length(event: dict[str, Any], turn: Turn | None) -> float:
    """Exact where the engine saw its end; else until it was looked at."""
    if turn is None:
        return float(event["at"] - event["began"])
    return float(turn["length"] or time.monotonic() - event["began"])


def callbacks(event: dict[str, Any], turn: Turn | None) -> int:
    # Of a turn that is over the event may have counted some of the next.
    exact = turn["callbacks"] if turn is not None else None
    return int(exact or 0) or (1 if event["over"] else max(event["callbacks"], 1))


def timed(turn: Turn | None) -> float:
    return float(sum(entry[3] for entry in turn["entries"])) if turn is not None else 0.0


def shares(turn: Turn | None) -> tuple[Share, ...]:
    """The functions that took most, the first the most."""
    if turn is None:
        return ()
    entries = sorted(
        (entry for entry in turn["entries"] if entry[0] is not None and entry[2]),
        key=lambda entry: -entry[3],
    )
    return tuple(
        Share(place_of(owner, method), count, total, longest)
        for owner, method, count, total, longest in entries[:MOST]
        if owner is not None
    )


def place_of(owner: CodeType | type, method: str | None) -> Place:
    """Where a function is defined."""
    if isinstance(owner, CodeType):
        return Place(owner.co_filename, owner.co_firstlineno, owner.co_qualname)
    if method is None:
        for name in METHODS:
            code = getattr(getattr(owner, name, None), "__code__", None)
            if isinstance(code, CodeType):
                return place_of(code, None)
        return Place("C code", 0, owner.__qualname__)
    return Place("C code", 0, f"{owner.__qualname__}.{method}")
