"""A callback's stack: from Python's frames where they can be had, else from the signal's dump.

- The frames of another thread are looked at under the GIL alone, and only believed when the
  callback still runs after they were read.
"""

import asyncio
import linecache
import os
import re
import sys
import sysconfig
import threading
from types import FrameType

from neverblock.watch.stall import Place

PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
#: The file whose run_forever() the callbacks of a loop stand on.
OUTERMOST = os.path.join(PACKAGE, "loop.py")

LINE = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$', re.MULTILINE)

DEPTH = 100

#: A debugger has stopped the program: it is not the program that blocks.
DEBUGGERS = re.compile(r"(?:^|/)(?:pdb|bdb|ipdb|pudb|pydevd|_pydevd_bundle|debugpy)(?:\.py$|/)")


def library() -> list[str]:
    """Beginnings of the files that are not the program's own."""
    paths = sysconfig.get_paths()
    found = [
        os.path.join(paths[name], "")
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
        if name in paths
    ]
    return [PACKAGE, *dict.fromkeys(found), "<frozen ", "<string>"]


LIBRARY = library()


def from_dump(text: str) -> tuple[Place, ...]:
    """The callback's part of what faulthandler wrote."""
    places = []
    for found in LINE.finditer(text):
        place = Place(found["file"], int(found["line"]), found["function"])
        if place.file == OUTERMOST and place.function == "run_forever":
            break
        places.append(place)
    return tuple(places)


def from_frame(frame: FrameType | None) -> tuple[Place, ...]:
    """The callback's part of a thread's frames."""
    places: list[Place] = []
    while frame is not None and len(places) < DEPTH:
        code = frame.f_code
        if code.co_filename == OUTERMOST and code.co_name == "run_forever":
            break
        places.append(Place(code.co_filename, frame.f_lineno or 0, code.co_qualname))
        frame = frame.f_back
    return tuple(places)


def of_thread(ident: int | None) -> tuple[Place, ...]:
    frames = sys._current_frames()
    try:
        return from_frame(frames.get(ident)) if ident is not None else ()
    finally:
        frames.clear()  # They keep all that their functions hold.


def own_line(stack: tuple[Place, ...]) -> Place | None:
    """The innermost line of the program's own; else the innermost of all."""
    for place in stack:
        if not place.file.startswith(tuple(LIBRARY)):
            return place
    return stack[0] if stack else None


def source(place: Place | None) -> str:
    """The text of the line; "" where the file cannot be read."""
    if place is None:
        return ""
    linecache.checkcache(place.file)
    return linecache.getline(place.file, place.line).strip()


def in_debugger(stack: tuple[Place, ...]) -> bool:
    return any(DEBUGGERS.search(place.file) for place in stack)


def task_of(loop: asyncio.AbstractEventLoop) -> str | None:
    """The name of the task that runs in the loop, seen from another thread."""
    try:
        task = asyncio.current_task(loop)
    except RuntimeError:
        return None
    return None if task is None else task.get_name()


def thread_with(native_id: int) -> threading.Thread | None:
    for thread in threading.enumerate():
        if thread.native_id == native_id:
            return thread
    return None
