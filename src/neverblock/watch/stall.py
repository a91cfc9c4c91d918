"""What is known of a stall: where, for how long, and why."""

import os
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Cause(StrEnum):
    """Why a callback does not come to its end; the values are what reports say."""

    COMPUTING = "computing"
    GIL_HELD = "computing in C, GIL held"
    SLEEPING = "sleeping"
    IO = "reading/writing"
    LOCK = "waiting for a lock"
    GIL = "waiting for the GIL"
    COLLECTING = "garbage collection"
    NOT_SCHEDULED = "not scheduled by the system"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a stack."""

    file: str
    line: int
    function: str

    @property
    def shown(self) -> str:
        """The file, from the current directory where it is below it, and the line."""
        return f"{shorter(self.file)}:{self.line}"

    def __str__(self) -> str:
        return f"{self.shown} in {self.function}"


@dataclass(frozen=True, slots=True)
class Stall:
    """One callback that kept the loop's thread: on going, or over.

    Times are in seconds.
    """

    #: How long so far; where it is over, in all.
    duration: float
    cause: Cause
    #: The program's own innermost line; None where no stack could be had.
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
    #: Name of the asyncio task, where a task ran.
    task: str | None = None
    #: Where the thread stands that the loop waits for.
    culprit: Place | None = None
    culprit_thread: str | None = None
    #: Time on a CPU, and ready for one that was not free.
    cpu: float = 0.0
    queued: float = 0.0
    #: How often the loop stalled at this line, this time included, and for how long in all.
    count: int = 1
    total: float = 0.0
    #: Whether it was written to standard error already: the GIL was held, nobody else could.
    told: bool = field(default=False, repr=False)

    def with_totals(self, count: int, total: float) -> "Stall":
        return replace(self, count=count, total=total)


def shorter(file: str) -> str:
    try:
        below = os.path.join(os.getcwd(), "")
    except OSError:  # The directory is gone.
        return file
    return file.removeprefix(below)
