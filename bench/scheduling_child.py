"""One scheduling measurement in a process of its own: prints one JSON object.

    python -m bench.scheduling_child LOOP WORKLOAD SECONDS CORE

A warm-up finds how many operations take a third of SECONDS; then three runs of that many are timed
and the middle one counts. The clock is the CPU time of the whole process: on the one core it is
pinned to, that is the time the work takes, whoever else wants the core. The garbage collector stays
on, as in a user's program; what exists after the warm-up is frozen out of it, the same for every
loop.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from statistics import median

from bench.errors import Unsupported
from bench.loops import factory
from bench.workloads import WORKLOADS, Workload

REPEATS = 3
GROWTH = 4.0


async def timed(workload: Workload, n: int) -> tuple[float, float]:
    """Seconds of the CPU and of the wall clock that `n` operations took."""
    loop = asyncio.get_running_loop()
    cpu, wall = time.process_time(), time.perf_counter()
    await workload.run(loop, n)
    return time.process_time() - cpu, time.perf_counter() - wall


async def measure(workload: Workload, seconds: float) -> dict[str, float]:
    n = workload.step
    while (took := (await timed(workload, n))[0]) < seconds / REPEATS / 2:
        wanted = n * min(seconds / REPEATS / max(took, 1e-6), GROWTH)
        n = -(-int(wanted + 1) // workload.step) * workload.step
    gc.collect()
    gc.freeze()
    runs = [await timed(workload, n) for _ in range(REPEATS)]
    return {
        "per_second": n / median(cpu for cpu, _ in runs),
        "per_second_of_wall": n / median(wall for _, wall in runs),
        "operations": n,
    }


def main() -> None:
    loop, workload, seconds, core = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    try:
        with asyncio.Runner(loop_factory=factory(loop), debug=False) as runner:
            result = runner.run(measure(WORKLOADS[workload], float(seconds)))
    except Unsupported as error:
        result = {"unsupported": str(error)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
