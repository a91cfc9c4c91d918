"""Stalls by the line they happen at: how often, for how long, and which of them are told.

- One for the process: loops of several threads report into it, each from its reporter's thread.
- A callback that stalls within a long turn is told by itself: its time is its line's, not once more
  that of the turn.
"""

import threading
from collections.abc import Hashable
from dataclasses import dataclass

from neverblock.watch.stall import Stall

#: After a report of one line the next waits this long, then twice as long, and so on.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


@dataclass(slots=True)
class Entry:
    where: str
    count: int = 0
    total: float = 0.0
    untold: int = 0
    pause: float = FIRST_PAUSE
    quiet_until: float = float("-inf")


def key(stall: Stall) -> Hashable:
    if stall.place is None:
        return where(stall)
    return stall.is_turn, stall.place.file, stall.place.line, stall.is_turn and stall.place.function


def where(stall: Stall) -> str:
    if stall.place is None:
        return stall.callback or f"a callback without Python code, {stall.cause}"
    return f"{stall.place}, called many times in one turn" if stall.is_turn else str(stall.place)


class Ledger:
    """Counts and totals."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, Entry] = {}
        self._lock = threading.Lock()

    def began(self, stall: Stall, now: float) -> tuple[Stall, bool]:
        """The stall with its count; whether to tell of it now."""
        with self._lock:
            entry = self._entries.setdefault(key(stall), Entry(where(stall)))
            entry.count += 1
            loud = now >= entry.quiet_until
            if loud:
                if now >= entry.quiet_until + LONGEST_PAUSE:
                    entry.pause = FIRST_PAUSE
                entry.quiet_until = now + entry.pause
                entry.pause = min(2 * entry.pause, LONGEST_PAUSE)
            else:
                entry.untold += 1
            return stall.with_totals(entry.count, entry.total + stall.counted), loud

    def ended(self, stall: Stall) -> Stall:
        """The stall with its place's total."""
        with self._lock:
            entry = self._entries[key(stall)]
            entry.total += stall.counted
            return stall.with_totals(entry.count, entry.total)

    def summary(self) -> str | None:
        """All lines by stolen time; None where the reports have said it all."""
        with self._lock:
            entries = sorted(self._entries.values(), key=lambda entry: -entry.total)
        if not any(entry.count > 1 for entry in entries):
            return None
        stalls = sum(entry.count for entry in entries)
        total = sum(entry.total for entry in entries)
        lines = [f"neverblock: the loop was blocked {stalls} times, {seconds(total)} in all:"]
        lines += [
            f"    {seconds(entry.total):>8}  {entry.count:>5} ×  {entry.where}"
            for entry in entries[:20]
        ]
        if len(entries) > 20:
            lines.append(f"    … and {len(entries) - 20} lines more")
        return "\n".join(lines)


def seconds(duration: float) -> str:
    return f"{duration * 1e3:.0f} ms" if duration < 1 else f"{duration:.1f} s"
