"""The scheduling rows: operations a second of one loop alone, one fresh process a measurement."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from bench.errors import Unsupported
from bench.processes import run
from bench.rows import Bar, Row, Sample, Settings
from bench.workloads import WORKLOADS

BAR = Bar("ratio", 1.0, aim=1.3)
WITH_BAR = {
    "call_soon chain",
    "call_soon batch",
    "timers create+cancel",
    "timers fire",
    "sleep(0)",
    "threadsafe wake",
}
DISTURBED = 0.1


def measurement(workload: str) -> Callable[[str, Settings], Sample]:
    def measure(loop: str, settings: Settings) -> Sample:
        seconds = 0.12 if settings.quick else 0.45
        arguments = [loop, workload, str(seconds), str(settings.server_core)]
        result = json.loads(
            run([sys.executable, "-m", "bench.scheduling_child", *arguments], timeout=60)
        )
        if reason := result.get("unsupported"):
            raise Unsupported(reason)
        value = result.pop("per_second")
        shared = result["per_second_of_wall"] < value * (1 - DISTURBED)
        return Sample(value, result, ("core shared with others, or idle",) if shared else ())

    return measure


ROWS = [
    Row(
        name=name,
        group="scheduling",
        unit="/s",
        measure=measurement(name),
        more_is_better=True,
        bar=BAR if name in WITH_BAR else None,
    )
    for name in WORKLOADS
]
