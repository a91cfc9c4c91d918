"""For code that still uses event loop policies (PEP 3156; deprecated in Python 3.14)."""

import sys
import warnings

from neverblock.loop import Loop

if sys.version_info >= (3, 14):  # not by the names that warn: what is told is told by install()
    from asyncio.events import _set_event_loop_policy as set_event_loop_policy
    from asyncio.unix_events import _DefaultEventLoopPolicy as DefaultEventLoopPolicy
else:
    from asyncio import DefaultEventLoopPolicy, set_event_loop_policy


class EventLoopPolicy(DefaultEventLoopPolicy):
    """A policy whose new loops are ours."""

    _loop_factory = Loop


def install() -> None:
    """Make ours the loop of asyncio.run() and asyncio.new_event_loop() in this process.

    From Python 3.12 on, asyncio.run(main, loop_factory=neverblock.new_event_loop) or
    neverblock.run(main) does it without a policy.
    """
    if sys.version_info >= (3, 12):
        warnings.warn(
            "neverblock.install() uses an event loop policy, which Python 3.16 removes; "
            "use neverblock.run(main) or "
            "asyncio.run(main, loop_factory=neverblock.new_event_loop)",
            DeprecationWarning,
            stacklevel=2,
        )
    set_event_loop_policy(EventLoopPolicy())
