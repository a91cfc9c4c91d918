"""Annotations of a pull request, as GitHub's and others' runners read them from standard output.

- Each line of the program is told once in a process, and ten of them at most, the worst first:
  that is what GitHub shows of one step. So they are printed when the process ends: not among what
  its tests print, which pytest keeps.
- What is not the line's fault is not told.
- Columns count characters from 1; the end is behind the last, as linters have it there.
https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

import atexit
import os
import threading

from neverblock.watch.ledger import seconds
from neverblock.watch.outputs.output import Output, attempt
from neverblock.watch.report import further, why
from neverblock.watch.stack import columns_of
from neverblock.watch.stall import Cause, Place, Stall

#: Warnings that GitHub shows of one step.
MOST = 10


class Annotations(Output):
    """A warning for each line that blocked, printed at exit.

    ``at_close``: when a loop is closed as well, for a process that ends without that (os._exit); a
    forked one always does so.
    """

    def __init__(self, *, at_close: bool = False) -> None:
        self._at_close = at_close
        self._clear()
        every.append(self)

    def tell(self, stall: Stall) -> None:
        if not stall.over or stall.place is None or stall.cause is Cause.NOT_SCHEDULED:
            return
        where = stall.place.file, stall.place.line
        with self._lock:
            if where not in self._told:
                self._found[where] = stall

    def flush(self) -> None:
        if self._at_close:
            self.show()

    def show(self) -> None:
        """Those that were not printed yet."""
        with self._lock:
            found = sorted(self._found.values(), key=lambda stall: -stall.total)
            chosen = found[: MOST - len(self._told)]
            self._told |= {(stall.place.file, stall.place.line) for stall in chosen if stall.place}
            self._found.clear()
        # A line of its own, whatever was printed before it.
        text = "".join(f"{annotation(stall)}\n" for stall in chosen)
        if text:
            print(f"\n{text}", end="", flush=True)

    def forget(self) -> None:
        self._at_close = True
        self._clear()

    def _clear(self) -> None:
        self._lock = threading.RLock()
        #: The newest of each line; its total is all that the line took.
        self._found: dict[tuple[str, int], Stall] = {}
        self._told: set[tuple[str, int]] = set()


#: Kept until the process ends, when they are printed.
every: list[Annotations] = []


def at_exit() -> None:
    for annotations in every:
        attempt(annotations, annotations.show)


# Before the one that ends all watches, which runs before this one therefore.
atexit.register(at_exit)


def annotation(stall: Stall) -> str:
    """The command."""
    times = f", {stall.count} times" if stall.count > 1 else ""
    properties = [f"title={property_of(f'Event loop blocked for {seconds(stall.total)}{times}')}"]
    if stall.place is not None and (file := in_repository(stall.place)) is not None:
        position = [f"line={stall.place.line}", *columns(stall.place)]
        properties = [f"file={property_of(file)}", *position, *properties]
    lines = [f"{stall.source or stall.place}: {why(stall)}", *further(stall)]
    message = data("\n".join(lines))
    return f"::warning {','.join(properties)}::{message}"


def columns(place: Place) -> list[str]:
    """Where in the line it is, as far as that is known."""
    known = zip(("col", "endColumn"), columns_of(place), strict=True)
    return [f"{name}={column + 1}" for name, column in known if column is not None]


def in_repository(place: Place) -> str | None:
    """The file, from the repository's root; None: it is not of it, or code without a file."""
    if not place.line or place.file.startswith("<"):
        return None
    try:
        root = os.path.realpath(os.environ.get("GITHUB_WORKSPACE") or os.getcwd())
    except OSError:  # The directory was removed.
        return None
    file = os.path.realpath(place.file)
    below = file.removeprefix(os.path.join(root, ""))
    return None if below == file else below


def data(text: str) -> str:
    """A message, escaped as actions/toolkit's command does."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def property_of(text: str) -> str:
    """A property's value, escaped."""
    return data(text).replace(":", "%3A").replace(",", "%2C")
