"""Clients that ask when it is their turn: ``python -m neverblock.lab.player REQUEST``.

They are the clients of ``neverblock load``, in a closed loop. It opens all connections, and says
so; then it takes a turn for each line of its standard input, and tells what came of it. Between two
turns it does nothing at all, and no request is under way but those that a server leaves waiting:
what is not answered in time is an error, and its connection is replaced in the next turn.
When its input is closed it tells what all turns together came to.

What it reads and what it tells are JSON objects, a line each.
"""

import asyncio
import gc
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from neverblock import Loop
from neverblock.load import limits
from neverblock.load.distribution import Distribution
from neverblock.load.plan import Plan
from neverblock.load.recorder import nanoseconds
from neverblock.load.session import Session
from neverblock.load.slots import Slots

SECOND: Final = 1_000_000_000
#: Seconds between two looks at whether all answers have come.
SOON: Final = 0.001


@dataclass
class Player:
    """The clients of one server."""

    session: Session
    waiting: int
    """How many of them the server may leave without an answer."""
    fresh: bool = True

    async def turn(self, seconds: float, lead: float) -> dict[str, Any]:
        """Ask for ``lead + seconds``, measure the latter, and wait for what is under way then."""
        meter, slots = self.session.meter, self.session.slots
        if slots is None:
            return {"answered": 0, "total": 0, "seconds": seconds, "busy": 0.0}
        answered, total, used = meter.answered, meter.total, time.process_time_ns()
        began = nanoseconds()
        opens = began + round(lead * SECOND)
        closes = opens + round(seconds * SECOND)
        meter.start(began, opens, closes)
        if self.fresh:
            self.fresh = False
            slots.go()
        else:
            for client in slots.clients():
                client.go()
        await asyncio.sleep((closes - nanoseconds()) / SECOND)
        busy = (time.process_time_ns() - used) / (nanoseconds() - began)
        await self.answers(slots, closes, round(self.session.plan.timeout * SECOND))
        return {
            "answered": meter.answered - answered,
            "total": meter.total - total,
            "seconds": seconds,
            "busy": busy,
        }

    async def answers(self, slots: Slots, closes: int, patience: int) -> None:
        """Until nothing is under way any more; what takes longer than ``patience`` ends."""
        while nanoseconds() <= closes + patience:
            if sum(client.in_flight > 0 for client in slots.clients()) <= self.waiting:
                return
            await asyncio.sleep(SOON)
        # Which of them a server leaves waiting, as it has to, cannot be told from those it forgot.
        if not self.waiting:
            slots.look(nanoseconds(), patience)

    def found(self) -> dict[str, Any]:
        """What all turns came to; afterwards nothing is open."""
        meter, slots = self.session.meter, self.session.slots
        if slots is not None:
            slots.close(count=True)
        return {
            "latency": Distribution.of(meter.latency.recorded()).summary(),
            "errors": {kind: count for kind, count in meter.errors.items() if count},
        }


async def opened(plan: Plan, waiting: int) -> Player:
    session = Session(plan, 0, lambda progress: None)
    await session.open()
    gc.collect()
    gc.freeze()
    return Player(session, waiting)


def main() -> None:
    request = json.loads(sys.argv[1])
    plan = Plan(**request["plan"])
    limits.raise_soft(plan)
    with asyncio.Runner(loop_factory=Loop) as runner:
        player = runner.run(opened(plan, request["waiting"]))
        slots = player.session.slots
        tell(opened=slots.alive if slots else 0)
        for line in sys.stdin:
            tell(**runner.run(player.turn(**json.loads(line))))
        tell(**player.found())
        # Closing thousands of sockets one by one is the kernel's work.
        os._exit(0)


def tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
