"""What the system allows a client process: descriptors (getrlimit(2))."""

import resource

from neverblock.errors import PlanError
from neverblock.load.plan import Plan

#: Descriptors that are no connections.
RESERVE = 64


def needed(plan: Plan) -> int:
    """Descriptors that the process with the most connections needs."""
    held = -(-plan.connections // plan.processes) + -(-plan.idle // plan.processes)
    return held + RESERVE


def check(plan: Plan) -> None:
    """Raises PlanError for more connections than a process may have descriptors."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and needed(plan) > hard:
        total = plan.connections + plan.idle
        name = "idle" if plan.idle > plan.connections else "connections"
        spread = -(-total // max(1, hard - RESERVE - 1))
        raise PlanError(
            name,
            f"{total} connections in {plan.processes} process"
            f"{'es' if plan.processes > 1 else ''} need {needed(plan)} descriptors each, and the "
            f"hard limit is {hard}; raise it (ulimit -Hn {needed(plan)}), or share them between "
            f"{spread} processes",
        )


def raise_soft(plan: Plan) -> None:
    """Let this process have the descriptors that it needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed(plan):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed(plan), hard))
