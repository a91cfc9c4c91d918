"""What is known of a stall: where, for how long, and why."""

import os
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Cause(StrEnum):
    """Why the loop does not get on; the values are what reports say."""

    COMPUTING = "computing"
    GIL_HELD = "computing in C, GIL held"
    SLEEPING = "sleeping"
    IO = "reading/writing"
    LOCK = "waiting for a lock"
    GIL = "waiting for the GIL"
    COLLECTING = "garbage collection"
    TURN = "many callbacks in one turn"
    NOT_SCHEDULED = "not scheduled by the system"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a stack."""

    file: str
    line: int
    function: str
    #: Where in the line the expression begins and ends that was at work, in bytes of UTF-8 from 0
    #: (PEP 657); None where it is not known, or ends in another line. Places of one line are equal.
    column: int | None = field(default=None, compare=False)
    end_column: int | None = field(default=None, compare=False)
    #: Whether it is in a coroutine.
    coroutine: bool = field(default=False, compare=False)

    @property
    def shown(self) -> str:
        """The file, from the current directory where it is below it, and the line."""
        return f"{shorter(self.file)}:{self.line}" if self.line else self.file

    def __str__(self) -> str:
        return f"{self.shown} in {self.function}"


@dataclass(frozen=True, slots=True)
class Sample:
    """A stack that was found while a callback kept the loop, and for how much of the time."""

    #: The callback's lines, innermost first.
    stack: tuple[Place, ...]
    #: How often it was found.
    count: int
    #: The time that is put down to it, in seconds.
    seconds: float


@dataclass(frozen=True, slots=True)
class Share:
    """One function's part in a turn, as far as its callbacks were timed."""

    #: Where it is defined; of C code, without a line.
    place: Place
    #: How often it was called, for how many seconds in all, and the longest time.
    count: int
    total: float
    longest: float


@dataclass(frozen=True, slots=True)
class Stall:
    """What kept the loop's thread, on going or over: one callback, or many in one turn.

    Times are in seconds.
    """

    #: How long so far; where it is over, in all.
    duration: float
    cause: Cause
    #: The program's own innermost line; None where it is in a callback without Python code. Of a
    #: turn: the function that took most of it.
    place: Place | None
    #: Whether it has ended.
    over: bool = False
    #: What the kernel says it waits in, and for what: "clock_nanosleep, GIL released".
    detail: str = ""
    #: The text of that line.
    source: str = ""
    #: What to write instead; "" where nothing is known that helps.
    hint: str = ""
    #: The callback's stack, innermost first.
    stack: tuple[Place, ...] = ()
    #: The stacks that were found while it lasted, the longest first; together its duration, less
    #: what a turn leaves to stalls of their own.
    samples: tuple[Sample, ...] = ()
    #: Name of the asyncio task, where a task ran.
    task: str | None = None
    #: The lines at which coroutines wait for one another, the task's own first, the innermost last.
    chain: tuple[Place, ...] = ()
    #: What the loop called, where that has no Python code: "time.sleep".
    callback: str | None = None
    #: Where the thread stands that the loop waits for.
    culprit: Place | None = None
    culprit_thread: str | None = None
    #: Time on a CPU, and ready for one that was not free.
    cpu: float = 0.0
    queued: float = 0.0
    #: How often the loop stalled at this line, this time included, and for how long in all.
    count: int = 1
    total: float = 0.0
    #: Of a turn: how many callbacks it had so far, and those that took most, the first the most.
    callbacks: int = 0
    top: tuple[Share, ...] = ()
    #: Of a turn: how many seconds of it were timed callback by callback; `top` is of these.
    timed: float = 0.0
    #: Of a turn: how many seconds of it are told by callbacks that are stalls of their own.
    apart: float = 0.0
    #: Whether it was written to standard error already: the GIL was held, nobody else could.
    told: bool = field(default=False, repr=False)
    #: A number that the stalls of one loop share, as long as one watcher watches it.
    loop: int = field(default=0, repr=False, compare=False)

    @property
    def is_turn(self) -> bool:
        """Whether it is many callbacks in one turn, not one that does not end."""
        return self.callbacks > 0

    @property
    def counted(self) -> float:
        """What totals count of its duration, so that each second is counted once."""
        return self.duration - self.apart

    def with_totals(self, count: int, total: float) -> "Stall":
        return replace(self, count=count, total=total)


def shorter(file: str) -> str:
    try:
        below = os.path.join(os.getcwd(), "")
    except OSError:  # The directory is gone.
        return file
    return file.removeprefix(below)
