"""The contract of an output: it is told every stall of the loops whose watch has it.

- tell() comes from the reporter's thread of a loop, the others from whoever runs or closes it:
  with several loops at once. What an output keeps, it locks, with a lock that may be taken again:
  the collector may close a forgotten loop at any moment.
- Nothing that an output raises reaches a loop or another output: the log has it, once.
- A forked child begins with nothing of its parent's: forget().
"""

import asyncio
import logging
import os
import weakref
from collections.abc import Callable
from typing import Any, Self

from neverblock.watch.stall import Stall

logger = logging.getLogger("neverblock.watch")


class Output:
    """Somewhere that stalls are told. Derive from it, and give it to ``Watch(outputs=[…])``."""

    #: Whether the log has said that it fails.
    failed = False

    def __new__(cls, *args: Any, **named: Any) -> Self:
        self = super().__new__(cls)
        made.add(self)
        return self

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """That loop is watched from now on."""

    def tell(self, stall: Stall) -> None:
        """A stall began, or is over (``stall.over``)."""

    def flush(self) -> None:
        """A loop is watched no more, at its close or at exit: what was told must be safe now.

        More may be told afterwards.
        """

    def forget(self) -> None:
        """This is a forked child: what was told so far was told to its parent."""


#: Every output there is, for a fork.
made: "weakref.WeakSet[Output]" = weakref.WeakSet()


def attempt(output: Output, call: Callable[..., object], *arguments: object) -> None:
    """Call a method of an output, whatever becomes of it."""
    try:
        call(*arguments)
    except Exception as error:
        if not output.failed:
            output.failed = True
            logger.warning(
                "an output of the watch fails, which is told only once: %s: %s: %s",
                type(output).__name__,
                type(error).__name__,
                error,
                exc_info=not isinstance(error, OSError),
            )


def forget_parents() -> None:
    for output in list(made):
        attempt(output, output.forget)


os.register_at_fork(after_in_child=forget_parents)
