"""What to write instead of a call that blocks."""

import re
from typing import Final

from neverblock.watch.stall import Cause

CALLS: Final = [
    (re.compile(pattern), hint)
    for pattern, hint in [
        (r"\btime\.sleep\((?P<a>[^()]*)\)", "await asyncio.sleep({a})"),
        (r"(?<![\w.])sleep\((?P<a>[^()]*)\)", "await asyncio.sleep({a})"),
        (
            r"\bsubprocess\.(?:run|call|check_call|check_output|Popen)\(|\bos\.system\(",
            "await asyncio.create_subprocess_exec(…), or asyncio.to_thread(…)",
        ),
        (r"\brequests\.|\burlopen\(|\bhttpx\.(?:get|post|Client)\b", "an asynchronous HTTP client"),
        (
            r"\bsocket\.(?:getaddrinfo|gethostbyname|gethostbyaddr|getfqdn)\(",
            "await loop.getaddrinfo(…)",
        ),
        (r"\bsocket\.create_connection\(", "await asyncio.open_connection(…)"),
        (r"\bselect\.(?:select|poll|epoll)\b", "loop.add_reader(…) and loop.add_writer(…)"),
        (r"\binput\(", "await asyncio.to_thread(input)"),
        (r"\bsqlite3\.|\.execute(?:many|script)?\(", "await asyncio.to_thread(…)"),
        (r"\bqueue\.Queue\b", "asyncio.Queue"),
    ]
]

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


def hint(source: str, cause: Cause) -> str:
    """For a line of source; "" where nothing is known that helps."""
    if cause is not Cause.NOT_SCHEDULED:
        for pattern, cure in CALLS:
            if found := pattern.search(source):
                return cure.format(**found.groupdict())
    return CAUSES.get(cause, "")
