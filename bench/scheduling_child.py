"""One scheduling measurement in a process of its own: prints one JSON object.

    python -m bench.scheduling_child LOOP WORKLOAD SECONDS CORE

A warm-up finds how many operations take a third of SECONDS; then three runs of that many are timed
and the middle one counts. The garbage collector stays on, as in a user's program; what exists
after the warm-up is frozen out of it, the same for every loop.
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
PROGRESS = 4.0


def run_delay_ns() -> int:
    """Nanoseconds all threads of this process were ready to run but not running."""
    total = 0
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/schedstat") as file:
            total += int(file.read().split()[1])
    return total


async def timed(workload: Workload, n: int) -> tuple[float, float]:
    """Seconds of the wall and of the CPU clock that `n` operations took."""
    loop = asyncio.get_running_loop()
    wall, cpu = time.perf_counter(), time.process_time()
    await workload.run(loop, n)
    return time.perf_counter() - wall, time.process_time() - cpu


async def measure(workload: Workload, seconds: float) -> dict[str, float]:
    clock = 0 if workload.waits else 1
    n = workload.step
    while (took := (await timed(workload, n))[clock]) < seconds / REPEATS / 2:
        growth = seconds / REPEATS / max(took, 1e-6)
        n = max(n + 1, int(n * min(growth, PROGRESS)))
        n = -(-n // workload.step) * workload.step
    gc.collect()
    gc.freeze()
    delay = run_delay_ns()
    runs = [await timed(workload, n) for _ in range(REPEATS)]
    wall = sum(run[0] for run in runs)
    return {
        "per_second": n / median(run[clock] for run in runs),
        "operations": n,
        "wall": wall,
        "cpu": sum(run[1] for run in runs),
        "run_delay": (run_delay_ns() - delay) / 1e9,
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
