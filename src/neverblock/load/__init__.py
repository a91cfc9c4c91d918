"""Load for servers, and what it measures: latency, throughput, errors by kind.

``run(Plan(...))`` returns a `Result`. Needs the extra ``load``.
"""

from neverblock.errors import PlanError
from neverblock.load.distribution import Distribution
from neverblock.load.messages import Progress
from neverblock.load.plan import Plan
from neverblock.load.processes import run
from neverblock.load.result import Idle, Result, Use

__all__ = ["Distribution", "Idle", "Plan", "PlanError", "Progress", "Result", "Use", "run"]
