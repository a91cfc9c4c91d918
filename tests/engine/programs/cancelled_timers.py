"""Make and cancel millions of timers; print what is left of them, in KiB and allocator blocks."""

import asyncio
import gc
import os
import sys

from tests.engine.loops import new_loop


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


async def across_turns(turns: int) -> None:
    """As a server does: one timeout a request, most of them cancelled, a few left to stand."""
    loop = asyncio.get_running_loop()
    for _ in range(turns):
        for _ in range(1_000):
            loop.call_later(3600, print, "never").cancel()
        loop.call_later(7200, print, "never")
        await asyncio.sleep(0)


async def burst(count: int) -> None:
    loop = asyncio.get_running_loop()
    handles = [loop.call_later(3600, print, "never") for _ in range(count)]
    for handle in handles:
        handle.cancel()
    del handles, handle
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def main() -> None:
    await across_turns(50)
    before = resident()
    await across_turns(1_000)
    print("across_turns", resident() - before)
    gc.collect()
    blocks = sys.getallocatedblocks()
    await burst(300_000)
    gc.collect()
    print("blocks_left", sys.getallocatedblocks() - blocks)
    before = resident()
    await burst(300_000)
    print("second_burst", resident() - before)


with asyncio.Runner(loop_factory=lambda: new_loop(sys.argv[1])) as runner:
    runner.run(main())
