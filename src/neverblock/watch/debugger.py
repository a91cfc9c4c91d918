"""Whether a debugger is at work in a thread: while it is, people block the loop, not the program.

- Only debuggers count. What else traces, as tools that measure coverage do, blocks nobody.
- debugpy with no editor connected does not count either: a program that listens for one is
  watched, and is watched again when the editor has gone, whatever marks are left on its frames.
"""

import functools
import sys
import threading
from types import CodeType

from neverblock.watch.stack import DEBUGGERS, is_outermost


def attached(thread: int | None, *, whole: bool = False) -> bool:
    """Whether a debugger traces a thread's callback: by sys.settrace() or sys.monitoring.

    `whole`: or anything on its stack. Frames below the callback have marks for good from pydevd's
    first breakpoint on.
    """
    frames = sys._current_frames()
    try:
        frame = frames.get(thread) if thread is not None else None
        while frame is not None:
            code = frame.f_code
            if not whole and is_outermost(code.co_filename, code.co_qualname):
                break
            if is_monitored(code) or (frame.f_trace is not None and is_debuggers(frame.f_trace)):
                return True
            frame = frame.f_back
        return False
    finally:
        frames.clear()  # They keep all that their functions hold.


def spare(thread: threading.Thread) -> None:
    """Let a breakpoint not halt that thread with all others: pydevd's, and so debugpy's, own mark.

    A thread of the watch's that is halted cannot tell that a breakpoint is why the loop stands, and
    looks as if the GIL were held.
    """
    thread.pydev_do_not_trace = True  # type: ignore[attr-defined]


def is_monitored(code: CodeType) -> bool:
    """Whether sys.monitoring's debugger, if there is one, has an eye on lines of that code."""
    if sys.version_info < (3, 12):
        return False
    debugger = sys.monitoring.DEBUGGER_ID
    try:
        if sys.monitoring.get_tool(debugger) == "pydevd" and is_deserted():
            return False
        # What it left behind in a code when its last breakpoint went does not count.
        return bool(
            sys.monitoring.get_events(debugger) and sys.monitoring.get_local_events(debugger, code)
        )
    except ValueError:  # There is none, or no longer.
        return False


def is_debuggers(function: object) -> bool:
    """Whether a trace function is a debugger's: by its file, or where it is compiled its module."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None)
    modules = (getattr(function, "__module__", None), type(function).__module__)
    names = [f"{module}".replace(".", "/") + ".py" for module in modules]
    if code is not None:
        names.append(code.co_filename)
    if any("pydevd" in name for name in names) and is_deserted():
        return False
    return any(DEBUGGERS.search(name) for name in names)


def is_deserted() -> bool:
    """Whether pydevd is debugpy's, and no editor is connected to it."""
    connected = getattr(sys.modules.get("debugpy"), "is_client_connected", None)
    return connected is not None and not connected()
