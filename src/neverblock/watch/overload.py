"""Whether a loop stalls so often that it should be given no more work.

- Stalls are noted in the reporter's thread; what follows from them is decided, and told, in the
  loop's own, as soon as it is free.
- A callback that stalls within a long turn is part of the turn's stall, not one more.
- It is overloaded from MANY stalls within WINDOW on, or when it was stalled for more than half of
  the last RECENT seconds; it has recovered after CALM seconds without a stall. Then it counts anew.
"""

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from neverblock.watch.outputs import Output
from neverblock.watch.stall import Stall

#: Stalls, within so many seconds.
MANY: Final = 3
WINDOW: Final = 10.0
#: Seconds of which more than half were stalled.
RECENT: Final = 2.0
#: Seconds without a stall after which it has recovered, and how often that is asked.
CALM: Final = 3.0
INTERVAL: Final = 0.5


class Span(NamedTuple):
    """A stall, from when to when; ``ended`` is None while it goes on."""

    began: float
    ended: float | None
    is_turn: bool = False


class Overload(Output):
    """Watches the stalls of one loop: ``Watch(on_stall="shed")`` has one for each of its loops."""

    def __init__(self) -> None:
        self.reason = ""
        """Why the loop is overloaded; "" where it is not."""
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._stalls: deque[Span] = deque(maxlen=100)
        #: When those began that go on: a turn, a callback, or both.
        self._open: dict[bool, float] = {}
        self._subscribers: list[Callable[[str], None]] = []

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        overloads[loop] = self

    def tell(self, stall: Stall) -> None:
        now = time.monotonic()
        began = now - stall.duration
        if stall.over:
            began = self._open.pop(stall.is_turn, began)
            self._stalls.append(Span(began, now, stall.is_turn))
        else:
            self._open[stall.is_turn] = began
        loop = self._loop() if self._loop is not None else None
        if stall.over and loop is not None:
            with suppress(RuntimeError):  # It is closed.
                loop.call_soon_threadsafe(self._look)

    def subscribe(self, told: Callable[[str], None]) -> None:
        """Call ``told`` in the loop's thread with the reason why it is overloaded from now on, and
        with "" when it has recovered. Called in that thread; tells at once if it is so already."""
        self._subscribers.append(told)
        if self.reason:
            told(self.reason)

    def unsubscribe(self, told: Callable[[str], None]) -> None:
        """Tell it no more."""
        with suppress(ValueError):
            self._subscribers.remove(told)

    def _look(self) -> None:
        going_on = [Span(began, None, is_turn) for is_turn, began in list(self._open.items())]
        reason = judged([*self._stalls, *going_on], time.monotonic())
        if reason and not self.reason:
            self._change(reason)
            self._look_again_later()

    def _look_again(self) -> None:
        now = time.monotonic()
        # A copy, made in one go: the reporter may note another stall meanwhile.
        last = max((ended for _, ended, _ in list(self._stalls) if ended is not None), default=0.0)
        if not self._open and now - last >= CALM:
            self._stalls.clear()
            self._change("")
        else:
            self._look_again_later()

    def _look_again_later(self) -> None:
        loop = self._loop() if self._loop is not None else None
        if loop is not None:
            loop.call_later(INTERVAL, self._look_again)

    def _change(self, reason: str) -> None:
        self.reason = reason
        for told in list(self._subscribers):
            told(reason)


#: Of each loop that has one.
overloads: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Overload]" = (
    weakref.WeakKeyDictionary()
)


def overload_of(loop: asyncio.AbstractEventLoop) -> Overload | None:
    """What watches whether that loop is overloaded; None: nobody does."""
    return overloads.get(loop)


def judged(stalls: list[Span], now: float) -> str:
    """Why a loop with these stalls is overloaded; "" where it is not."""
    stalls = apart(stalls, now)
    many = sum(began >= now - WINDOW for began, _, _ in stalls)
    if many >= MANY:
        return f"{many} stalls within {WINDOW:g} s"
    stalled = sum(
        max(0.0, (now if ended is None else ended) - max(began, now - RECENT))
        for began, ended, _ in stalls
    )
    if stalled > RECENT / 2:
        return f"stalled for {stalled:.1f} of the last {RECENT:g} s"
    return ""


def apart(stalls: list[Span], now: float) -> list[Span]:
    """Without the callbacks that stalled within a turn that is among them: those whose middle is
    there, as when they begin and end is known up to when it was told."""
    turns = [(began, ended or now) for began, ended, is_turn in stalls if is_turn]
    return [
        stall
        for stall in stalls
        if stall.is_turn
        or not any(
            began <= (stall.began + (stall.ended or now)) / 2 <= ended for began, ended in turns
        )
    ]
