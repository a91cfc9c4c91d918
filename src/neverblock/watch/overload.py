"""Whether a loop stalls so often that it should be given no more work.

- Stalls are noted in the reporter's thread; what follows from them is decided, and told, in the
  loop's own, as soon as it is free.
- It is overloaded from MANY stalls within WINDOW on, or when it was stalled for more than half of
  the last RECENT seconds; it has recovered after CALM seconds without a stall. Then it counts anew.
"""

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

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


class Overload(Output):
    """Watches the stalls of one loop: ``Watch(on_stall="shed")`` has one for each of its loops."""

    def __init__(self) -> None:
        self.reason = ""
        """Why the loop is overloaded; "" where it is not."""
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._stalls: deque[tuple[float, float | None]] = deque(maxlen=100)
        self._subscribers: list[Callable[[str], None]] = []

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        overloads[loop] = self

    def tell(self, stall: Stall) -> None:
        now = time.monotonic()
        began = now - stall.duration
        if stall.over and self._stalls and self._stalls[-1][1] is None:
            began, _ = self._stalls.pop()
        self._stalls.append((began, now if stall.over else None))
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
        if not self.reason and (reason := judged(list(self._stalls), time.monotonic())):
            self._change(reason)
            self._look_again_later()

    def _look_again(self) -> None:
        now = time.monotonic()
        last = self._stalls[-1][1] if self._stalls else 0.0
        if last is not None and now - last >= CALM:
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


def judged(stalls: list[tuple[float, float | None]], now: float) -> str:
    """Why a loop with these stalls, each from when to when, is overloaded; "" where it is not."""
    many = sum(began >= now - WINDOW for began, _ in stalls)
    if many >= MANY:
        return f"{many} stalls within {WINDOW:g} s"
    stalled = sum(
        max(0.0, (now if ended is None else ended) - max(began, now - RECENT))
        for began, ended in stalls
    )
    if stalled > RECENT / 2:
        return f"stalled for {stalled:.1f} of the last {RECENT:g} s"
    return ""
