"""Whether a debugger is at work in a thread: while it is, people block the loop, not the program.

- Only debuggers count. What else traces, as tools that measure coverage do, blocks nobody.
"""

import sys

from neverblock.watch.stack import DEBUGGERS


def attached(thread: int | None) -> bool:
    """Whether a debugger traces that thread: by sys.settrace(), or as sys.monitoring's debugger."""
    if sys.version_info >= (3, 12) and sys.monitoring.get_tool(sys.monitoring.DEBUGGER_ID):
        return True
    frames = sys._current_frames()
    try:
        frame = frames.get(thread) if thread is not None else None
        while frame is not None:
            if frame.f_trace is not None and is_debuggers(frame.f_trace):
                return True
            frame = frame.f_back
        return False
    finally:
        frames.clear()  # They keep all that their functions hold.


def is_debuggers(function: object) -> bool:
    """Whether a trace function is a debugger's: by its file, or where it is compiled its module."""
    code = getattr(function, "__code__", None)
    modules = (getattr(function, "__module__", None), type(function).__module__)
    names = [f"{module}".replace(".", "/") + ".py" for module in modules]
    if code is not None:
        names.append(code.co_filename)
    return any(DEBUGGERS.search(name) for name in names)
