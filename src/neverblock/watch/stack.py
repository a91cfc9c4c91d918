"""A callback's stack: from the sampler's lines, else from Python's frames.

- The frames of another thread are looked at under the GIL alone, and only believed when the
  callback still runs after they were read.
"""

import asyncio
import functools
import inspect
import linecache
import os
import re
import sys
import sysconfig
import threading
from collections.abc import Iterable
from itertools import islice
from types import CodeType, FrameType

from neverblock.watch.stall import Place, Sample

PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
ASYNCIO = os.path.join(os.path.dirname(os.path.abspath(asyncio.__file__)), "")
#: The function on whose frame the callbacks of our loop stand: its file, and its qualified name.
OURS = (os.path.join(PACKAGE, "loop.py"), "Loop.run_forever")
#: The same for asyncio's handles, its loop where that is at work itself, and who runs a loop of
#: compiled code, which has no frames.
OUTERMOST = (
    OURS,
    (f"{ASYNCIO}events.py", "Handle._run"),
    (f"{ASYNCIO}base_events.py", "BaseEventLoop._run_once"),
    (f"{ASYNCIO}base_events.py", "BaseEventLoop.run_forever"),
    (f"{ASYNCIO}runners.py", "Runner.run"),
)

#: What the sampler has of a line: file, line, columns (-1: not known), function, whether that is a
#: coroutine.
Line = tuple[str, int, int, int, str, bool]

DEPTH = 100
COROUTINE = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE

#: A debugger has stopped the program: it is not the program that blocks.
DEBUGGERS = re.compile(r"(?:^|/)(?:pdb|bdb|ipdb|pudb|pydevd|_pydevd_bundle|debugpy)(?:\.py$|/)")


@functools.cache
def library() -> tuple[str, ...]:
    """Beginnings of the files that are not the program's own."""
    paths = sysconfig.get_paths()
    found = [
        os.path.join(paths[name], "")
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
        if name in paths
    ]
    return (PACKAGE, *dict.fromkeys(found), "<frozen ", "<string>")


def is_outermost(file: str, function: str) -> bool:
    """Whether it is a loop's own frame, on which those of its callbacks stand."""
    return (file, function) in OUTERMOST


def from_lines(lines: Iterable[Line]) -> tuple[Place, ...]:
    """The callback's part of what the sampler found."""
    places: list[Place] = []
    for file, line, column, end_column, function, coroutine in lines:
        if is_outermost(file, function):
            break
        places.append(Place(file, line, function, known(column), known(end_column), coroutine))
    return tuple(places)


def known(column: int) -> int | None:
    return None if column < 0 else column


def from_frame(frame: FrameType | None, end: FrameType | None = None) -> tuple[Place, ...]:
    """The callback's part of a thread's frames; ``end`` is the first that is no more of it."""
    places: list[Place] = []
    while frame is not None and frame is not end and len(places) < DEPTH:
        code = frame.f_code
        if is_outermost(code.co_filename, code.co_qualname):
            break
        line = frame.f_lineno or 0
        column, end_column = columns(code, frame.f_lasti, line)
        places.append(
            Place(
                code.co_filename,
                line,
                code.co_qualname,
                column,
                end_column,
                bool(code.co_flags & COROUTINE),
            )
        )
        frame = frame.f_back
    return tuple(places)


def columns(code: CodeType, instruction: int, line: int) -> tuple[int | None, int | None]:
    """Where the expression of the instruction begins and ends, if that is in one line."""
    position = next(islice(code.co_positions(), max(instruction, 0) // 2, None), None)
    if position is None or position[0] != line:
        return None, None
    _, end_line, column, end_column = position
    return column, end_column if end_line == line else None


def samples_of(found: Iterable[tuple[list[Line], int, float]]) -> tuple[Sample, ...]:
    """What was found in a stall that is over, the longest first; of one stack once."""
    stacks: dict[tuple[Place, ...], Sample] = {}
    for lines, count, seconds in found:
        stack = from_lines(lines)
        before = stacks.get(stack, Sample(stack, 0, 0.0))
        stacks[stack] = Sample(before.stack, before.count + count, before.seconds + seconds)
    return tuple(sorted(stacks.values(), key=lambda sample: -sample.seconds))


def of_thread(ident: int | None) -> tuple[Place, ...]:
    frames = sys._current_frames()
    try:
        return from_frame(frames.get(ident)) if ident is not None else ()
    finally:
        frames.clear()  # They keep all that their functions hold.


def root_of(places: tuple[Place, ...]) -> tuple[str, str] | None:
    """File and name of the function that the loop called; None where it has no Python code."""
    return (places[-1].file, places[-1].function) if places else None


def own_line(stack: tuple[Place, ...]) -> Place | None:
    """The innermost line of the program's own; else the innermost of all."""
    for place in stack:
        if not place.file.startswith(library()):
            return place
    return stack[0] if stack else None


def source(place: Place | None) -> str:
    """The text of the line; "" where the file cannot be read."""
    return line_of(place).strip() if place is not None else ""


def line_of(place: Place) -> str:
    linecache.checkcache(place.file)
    return linecache.getline(place.file, place.line)


def expression(place: Place | None) -> tuple[int, int] | None:
    """Where in source() it is that was at work, in characters; None where that says nothing.

    It says something where there is another call in the line.
    """
    if place is None:
        return None
    start, end = columns_of(place)
    if start is None or end is None:
        return None
    line = line_of(place)
    indent = len(line) - len(line.lstrip())
    if indent <= start < end <= len(line.rstrip()) and "(" in line[:start] + line[end:]:
        return start - indent, end - indent
    return None


def columns_of(place: Place) -> tuple[int | None, int | None]:
    """Where in its line the expression begins and ends, in characters from 0, as far as is known.

    Nothing is where the line is not what it was.
    """
    text = line_of(place).encode()
    start, end = place.column, place.end_column
    if start is None or not start < (len(text) if end is None else end) <= len(text):
        return None, None
    before = len(text[:start].decode(errors="replace"))
    return before, None if end is None else len(text[:end].decode(errors="replace"))


def chain_of(stack: tuple[Place, ...]) -> tuple[Place, ...]:
    """The coroutines in it, the outermost first."""
    return tuple(place for place in reversed(stack) if place.coroutine)


def callback_name(running: object) -> str | None:
    """What the loop calls; nothing of the user's is called for that."""
    callback = getattr(running, "_callback", None)
    if callback is None:
        return None if running is None else type(running).__name__
    while isinstance(callback, functools.partial):
        callback = callback.func
    name = getattr(callback, "__qualname__", None)
    if not isinstance(name, str):
        return type(callback).__name__
    module = getattr(callback, "__module__", None)
    return f"{module}.{name}" if isinstance(module, str) and module != "builtins" else name


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
