"""The protocols by name: what makes a client of each, and what has to be there before they ask."""

from collections.abc import Callable
from typing import Any, TypeAlias

from neverblock.load.client import Client, Meter
from neverblock.load.echo import Echo, Messages
from neverblock.load.plan import Plan

Maker: TypeAlias = Callable[[Meter, Any], Client]


def maker(plan: Plan) -> Maker:
    """Makes the clients of a process, which share what they send."""
    messages = Messages(plan.size)
    return lambda meter, keeper: Echo(meter, keeper, plan.pipeline, messages)
