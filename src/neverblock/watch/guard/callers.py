"""Who calls: the program, which may not block the loop, or somebody who is exempt.

- Frames are looked at from the call outwards, as far as the loop's own run_forever().
- "Inside" holds for all that the named code calls; "itself" only for what it calls with nothing
  but the standard library between, so that a callback of the program's is not exempt.
"""

import asyncio
import os
import sysconfig
from dataclasses import dataclass
from functools import cache
from types import CodeType, FrameType
from typing import Final

from neverblock.watch.stack import OUTERMOST, PACKAGE

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

#: What may block itself: the loop's own code, and what runs tests.
ITSELF: Final = ("asyncio", "neverblock", "_pytest")

#: A lock that the standard library takes for its own state is soon free; here it waits.
WAITING: Final = ("threading", "Condition.wait")
#: And here for a thread, which may be about to end.
JOINING: Final = ("threading", "Thread._wait_for_tstate_lock")

LIBRARY: Final = os.path.join(sysconfig.get_path("stdlib"), "")
ASYNCIO: Final = os.path.join(os.path.dirname(asyncio.__file__), "")
THIRD_PARTY: Final = tuple(
    os.path.join(LIBRARY, each, "") for each in ("site-packages", "dist-packages")
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call; ``called`` is what it called for that in the standard library."""

    exempt: bool
    called: tuple[str, str] | None = None
    frame: FrameType | None = None


EXEMPT: Final = Caller(True)


def caller(frame: FrameType | None) -> Caller:
    """Who stands behind a call that was made from that frame."""
    called = own = None
    while frame is not None:
        code = frame.f_code
        if code.co_filename == OUTERMOST and code.co_name == "run_forever":
            break
        if own is not None and code.co_name == "_run_once" and owner(code.co_filename) == "loop":
            break  # asyncio's own loop, watched as well
        if inside(str(frame.f_globals.get("__name__")), code):
            return EXEMPT
        if own is None:
            kind = owner(code.co_filename)
            if kind == "library":
                called = key(frame)
            elif kind == "program" and package(frame) not in ITSELF:
                own = frame
            else:
                return EXEMPT
        frame = frame.f_back
    return Caller(False, called, own)


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
    """Who takes a lock that is held: one who "waits", one who has it "soon", or one who may."""
    if frame is not None and key(frame) == ("threading", "Condition.__enter__"):
        frame = frame.f_back
    if frame is None:
        return "may"
    if key(frame) == WAITING:
        return "waits"
    if key(frame) == JOINING or owner(frame.f_code.co_filename) == "program":
        return "may"
    return "soon"
