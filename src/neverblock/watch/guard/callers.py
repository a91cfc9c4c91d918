"""Who calls: the program, which may not block the loop, or somebody who is exempt.

- Frames are looked at from the call outwards, as far as the loop that runs the callback: our
  run_forever(), the handle of a loop in Python, or whoever runs a loop of compiled code, which has
  no frames.
- "Inside" holds for all that the named code calls; "itself" only for what it calls with nothing
  but the standard library between, so that a callback of the program's is not exempt.
"""

import asyncio
import inspect
import os
import sys
import threading
from asyncio import events
from dataclasses import dataclass
from functools import cache
from opcode import opmap
from types import CodeType, FrameType
from typing import Final

from neverblock.watch.guard.waits import is_socket
from neverblock.watch.stack import OURS, PACKAGE

#: Packages that may block inside: imports, what reads their bytecode, and what is told of packages
#: that are installed; telling of errors; logging and its handlers; debuggers and coverage, which
#: stop or trace the program.
INSIDE_PACKAGES: Final = frozenset(
    {
        *("importlib", "_frozen_importlib", "_frozen_importlib_external", "zipimport"),
        *("traceback", "linecache", "warnings", "inspect", "logging", "faulthandler"),
        *("pdb", "bdb", "ipdb", "pudb", "pydevd", "_pydevd_bundle", "debugpy", "coverage"),
    }
)

#: Functions that may block inside: a thread or a process of an executor is started; the system's
#: certificates are loaded; objects are finalized, where an error would be lost.
INSIDE_FUNCTIONS: Final = frozenset(
    {
        ("threading", "Thread.start"),
        ("concurrent.futures.thread", "ThreadPoolExecutor.submit"),
        ("concurrent.futures.process", "ProcessPoolExecutor.submit"),
        ("ssl", "create_default_context"),
        ("ssl", "SSLContext.load_default_certs"),
        ("certifi.core", "where"),
        ("weakref", "finalize.__call__"),
    }
)

#: What may block itself: the code of loops, and what runs tests.
ITSELF: Final = ("asyncio", "neverblock", "uvloop", "rloop", "_pytest")

#: A lock that the standard library takes for its own state is soon free; here it waits.
WAITING: Final = ("threading", "Condition.wait")
#: And here for a thread, which may be about to end.
JOINING: Final = ("threading", "Thread._wait_for_tstate_lock")

#: What loops of compiled code do themselves, as uvloop: they look at the path of a Unix server and
#: remove it, and hear whether a program could be started. And wait for the thread that has just
#: ended their executor.
COMPILED: Final = frozenset({"os.stat", "os.remove", "os.read"})
ENDING: Final = ("threading", "Thread.join")

#: A line that awaits what is compiled stands at this instruction.
AWAITS: Final = opmap["SEND"]

#: Not sysconfig's word: it would have to read how Python was built, each time a program starts.
LIBRARY: Final = os.path.join(os.path.dirname(os.__file__), "")
ASYNCIO: Final = os.path.join(os.path.dirname(asyncio.__file__), "")
#: Where the handles are by which asyncio's loops run callbacks.
HANDLES: Final = os.path.join(ASYNCIO, "events.py")
THIRD_PARTY: Final = tuple(
    os.path.join(LIBRARY, each, "") for each in ("site-packages", "dist-packages")
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call; ``called`` is what it called for that in the standard library.

    ``end`` is the first frame that is not the callback's any more; None: all are.
    ``is_generator``: what it called runs at each step of a loop over it.
    """

    exempt: bool
    called: tuple[str, str] | None = None
    end: FrameType | None = None
    is_generator: bool = False


EXEMPT: Final = Caller(True)


class Run(threading.local):
    """The run of a strict loop in this thread: the frame of who runs it."""

    outermost: FrameType | None = None


run: Final = Run()


def runner() -> FrameType | None:
    """Who runs the loop that begins just now: the innermost frame that is not ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame


def caller(frame: FrameType | None, name: str, args: tuple[object, ...]) -> Caller:
    """Who stands behind the call of that name, which was made from that frame."""
    called = own = None
    is_generator = False
    loop = events._get_running_loop()
    compiled = not isinstance(loop, asyncio.BaseEventLoop)
    while frame is not None:
        code = frame.f_code
        if compiled and own is None and is_compiled(frame, name, called):
            return EXEMPT
        if frame is run.outermost or is_callers_end(code):
            break
        if inside(str(frame.f_globals.get("__name__")), code):
            return EXEMPT
        if own is None:
            kind = owner(code.co_filename)
            if kind == "library":
                called = key(frame)
                is_generator = bool(code.co_flags & inspect.CO_GENERATOR)
            elif kind == "program" and package(frame) not in ITSELF:
                own = frame
                if compiled and called is None and closes_server(name, args):
                    return EXEMPT
            else:
                return EXEMPT
        if code.co_name == "_run_once" and frame.f_locals.get("self") is loop:
            return EXEMPT  # A loop in Python that waits: it runs no callback.
        frame = frame.f_back
    return Caller(False, called, frame, is_generator)


def is_callers_end(code: CodeType) -> bool:
    """Whether callbacks stand on such a frame."""
    if code.co_filename == HANDLES:
        return code.co_qualname == "Handle._run"
    return (code.co_filename, code.co_qualname) == OURS


def is_compiled(frame: FrameType, name: str, called: tuple[str, str] | None) -> bool:
    """Whether it is the code of a compiled loop that calls: it seems to be who runs the loop, or a
    line that awaits something of it."""
    if called != ENDING and (called is not None or name not in COMPILED):
        return False
    return frame is run.outermost or frame.f_code.co_code[frame.f_lasti] == AWAITS


def closes_server(name: str, args: tuple[object, ...]) -> bool:
    """Closing a Unix server of uvloop's looks for its socket's path, and removes it."""
    return name in ("os.stat", "os.remove") and bool(args) and is_socket(args[0])


def key(frame: FrameType) -> tuple[str, str]:
    """The module and the qualified name of a frame's function."""
    return str(frame.f_globals.get("__name__")), frame.f_code.co_qualname


def package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


@cache
def owner(file: str) -> str:
    """Whose a file is: the "loop"'s, the "library"'s, or the "program"'s."""
    if file.startswith((ASYNCIO, PACKAGE)):
        return "loop"
    if file.startswith("<frozen ") or (
        file.startswith(LIBRARY) and not file.startswith(THIRD_PARTY)
    ):
        return "library"
    return "program"


def inside(module: str, code: CodeType) -> bool:
    return (
        module.partition(".")[0] in INSIDE_PACKAGES
        or (module, code.co_qualname) in INSIDE_FUNCTIONS
        or code.co_name == "__del__"
    )


def taker(frame: FrameType | None) -> str:
    """Who takes a lock that is held: one who "waits", one who has it "soon", or one who may.

    In the loop's own frame it is a callback: the lock's method itself. The loop takes none there.
    """
    if frame is not None and key(frame) == ("threading", "Condition.__enter__"):
        frame = frame.f_back
    if frame is None or frame is run.outermost or is_callers_end(frame.f_code):
        return "may"
    if key(frame) == WAITING:
        return "waits"
    if key(frame) == JOINING or owner(frame.f_code.co_filename) == "program":
        return "may"
    return "soon"
