"""Which loops the tests of this folder run on, for pytest and for programs started by tests.

A kind is "asyncio" (the standard library's own loop: a test it fails is a wrong test),
"default" (ours, backend left to choose) or the name of one of our backends.
"""

import asyncio
import select

BACKENDS = [name for name in ("select", "poll", "epoll", "kqueue") if hasattr(select, name)]
KINDS = ["asyncio", *BACKENDS]
# Long tests ask the same of one backend only.
HEAVY_KINDS = ["asyncio", "default"]


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    if kind == "asyncio":
        return asyncio.SelectorEventLoop()
    import neverblock

    return neverblock.Loop(backend=None if kind == "default" else kind)
