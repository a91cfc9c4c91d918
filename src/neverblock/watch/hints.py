"""What to write instead of a call that blocks.

- A line of source tells what it calls by names alone: where the cause is none that these calls
  have, or the call is awaited, it is not that which blocks.
"""

import re
from typing import Final

from neverblock.watch.stall import Cause

#: Not a name within another, nor an attribute: ``self.requests`` is not the module.
ALONE: Final = r"(?<![\w.])"

#: What waits for something: the causes are those below.
CALLS: Final = [
    (re.compile(pattern), hint)
    for pattern, hint in [
        (rf"{ALONE}(?:time\.)?sleep\((?P<a>[^()]*)\)", "await asyncio.sleep({a})"),
        (
            rf"{ALONE}subprocess\.(?:run|call|check_call|check_output|Popen)\(",
            "await asyncio.create_subprocess_exec(…), or asyncio.to_thread(…)",
        ),
        (
            rf"{ALONE}(?:os\.(?:system|popen)|subprocess\.get(?:status)?output)\(",
            "await asyncio.create_subprocess_shell(…), or asyncio.to_thread(…)",
        ),
        (
            rf"{ALONE}(?:requests|httpx)\.(?:get|post|put|patch|delete|head|options|request)\(",
            "an asynchronous HTTP client",
        ),
        (rf"{ALONE}(?:urllib\.)?(?:request\.)?urlopen\(", "an asynchronous HTTP client"),
        (
            rf"{ALONE}socket\.(?:getaddrinfo|gethostbyname|gethostbyname_ex)\(",
            "await loop.getaddrinfo(…)",
        ),
        (
            rf"{ALONE}socket\.(?:gethostbyaddr|getfqdn|getnameinfo)\(",
            "await loop.getnameinfo(…)",
        ),
        (rf"{ALONE}socket\.create_connection\(", "await asyncio.open_connection(…)"),
        (
            rf"{ALONE}select\.(?:select|poll|epoll)\(",
            "loop.add_reader(…) and loop.add_writer(…)",
        ),
        (rf"{ALONE}input\(", "await asyncio.to_thread(input)"),
        (
            rf"{ALONE}sqlite3\.connect\(|\.execute(?:many|script)?\(",
            "one function that connects, executes and closes, run by asyncio.to_thread",
        ),
        (rf"{ALONE}queue\.Queue\(", "asyncio.Queue"),
    ]
]

#: The causes that these calls have.
WAITING: Final = (Cause.IO, Cause.LOCK, Cause.SLEEPING, Cause.UNKNOWN)

#: What stands before a call that is awaited, up to where it was found: ``await session``.
AWAITED: Final = re.compile(r"\bawait\s+(?:[\w.]|\([^()]*\)|\[[^\[\]]*\])*$")

CAUSES: Final = {
    Cause.IO: "await asyncio.to_thread(…)",
    Cause.LOCK: "asyncio.Lock between tasks, asyncio.to_thread(…) around what waits for a thread",
    Cause.GIL_HELD: "run it in another process: loop.run_in_executor(ProcessPoolExecutor(), …)",
    Cause.COMPUTING: "run it in another process: loop.run_in_executor(ProcessPoolExecutor(), …)",
    Cause.TURN: "fewer at once: await asyncio.sleep(0) between parts of the work, or a semaphore",
    Cause.COLLECTING: "gc.freeze() after start, fewer objects, or gc.collect() where it is idle",
    Cause.GIL: "what holds the GIL is in another thread: run that in another process",
    Cause.SLEEPING: "await what it sleeps for, or asyncio.to_thread(…)",
}


def hint(source: str, cause: Cause, detail: str = "") -> str:
    """For a line of source; "" where nothing is known that helps."""
    # What computes without the GIL is such a call as well, as sqlite3's.
    if cause in WAITING or (cause is Cause.COMPUTING and detail == "GIL released"):
        for pattern, cure in CALLS:
            if found := called(pattern, source):
                return cure.format(**found.groupdict())
    return CAUSES.get(cause, "")


def called(pattern: re.Pattern[str], source: str) -> re.Match[str] | None:
    """Where the line calls it, and does not await it."""
    for found in pattern.finditer(source):
        if not AWAITED.search(source, 0, found.start()):
            return found
    return None
