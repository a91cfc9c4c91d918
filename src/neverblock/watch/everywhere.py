"""The watch for every event loop of a process, whoever made it; and the guard.

- A loop that starts to run says so to asyncio, in whose `_set_running_loop` the hook stands: loops
  of asyncio, uvloop and others alike. What asked asyncio for that function before is not heard.
- A loop is watched from the start of a run to its end, each run by a watcher of its own.
- A forked child leaves alone what its parent began.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from neverblock.watch.report import logger

if TYPE_CHECKING:
    from neverblock.loop import Watcher

#: Loops that took the function along when they were imported.
HOLDERS = ("uvloop", "rloop.loop")

#: Where loops ask for it.
MODULES = (asyncio, asyncio.events)


class Watch(Protocol):
    """Makes what watches one run of a loop: neverblock.Watch, or neverblock.Guard."""

    def attach(self, loop: asyncio.AbstractEventLoop) -> "Watcher": ...


class Runs(threading.local):
    """Who watches the loop that runs in this thread, and in which process that began."""

    watcher: "Watcher | None" = None
    process = 0


def every_loop(watch: Watch) -> Callable[[], None]:
    """Watch all loops that run from now on, in every thread; returns what ends that.

    Loops of neverblock that have a watch of their own keep it.
    """
    told: Callable[[asyncio.AbstractEventLoop | None], None] = asyncio._set_running_loop
    runs = Runs()

    def hear(loop: Any) -> None:
        told(loop)
        watcher, runs.watcher = runs.watcher, None
        # In a forked child asyncio itself calls this: what watches is the parent's there, whose
        # epoll the child shares.
        if watcher is not None and runs.process == os.getpid():
            watcher.leave()
            watcher.stop()
        if loop is not None and getattr(loop, "_watched_by", None) is None:
            runs.watcher = begun(watch, loop)
            runs.process = os.getpid()

    for name in HOLDERS:
        if name in sys.modules:
            logger.warning(
                "loops of %s are not watched: import it after the watch has begun",
                name.partition(".")[0],
            )
    for module in MODULES:
        vars(module)["_set_running_loop"] = hear

    def end() -> None:
        for module in MODULES:
            if vars(module)["_set_running_loop"] is hear:
                vars(module)["_set_running_loop"] = told

    return end


def begun(watch: Watch, loop: asyncio.AbstractEventLoop) -> "Watcher | None":
    """What watches that loop; None, with a line in the log, where it cannot be watched."""
    watcher: Watcher | None = None
    try:
        watcher = watch.attach(loop)
        watcher.enter()
    except Exception as error:  # of a loop that is not ours: whatever it raises
        logger.warning("the loop is not watched: %r", error)
        if watcher is not None:
            watcher.stop()
        if not getattr(watch, "strict", False):
            return None
        from neverblock.watch.guard import Guard

        return begun(Guard(), loop)  # which asks nothing of a loop
    return watcher
