"""Load for servers, and what it measures: latency, throughput, errors by kind.

``run(Plan(...))`` returns a `Result`; ``run_on_fleet("dask://…", Plan(...))`` lets several machines
do it. They need the extras ``load`` and ``fleet``.
"""

from neverblock.errors import PlanError
from neverblock.load.distribution import Distribution
from neverblock.load.fleet import run_on_fleet
from neverblock.load.messages import Progress
from neverblock.load.plan import Plan
from neverblock.load.processes import run
from neverblock.load.result import Idle, Result, Use

__all__ = [
    "Distribution",
    "Idle",
    "Plan",
    "PlanError",
    "Progress",
    "Result",
    "Use",
    "run",
    "run_on_fleet",
]
