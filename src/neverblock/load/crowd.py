"""Connections that are only there: open, and never saying anything.

They stay as the server leaves them: one that it closes is counted, and not opened again.
"""

import asyncio
from dataclasses import dataclass, field

from neverblock.load.client import Meter
from neverblock.load.kinds import CONNECT_TIMEOUT, kind_of
from neverblock.load.result import Idle
from neverblock.load.slots import AT_ONCE, HOPELESS, Route, until


class Bystander(asyncio.Protocol):
    """One of them."""

    def __init__(self, crowd: "Crowd") -> None:
        self.crowd = crowd

    def connection_lost(self, error: Exception | None) -> None:
        if not self.crowd.closing:
            self.crowd.count.closed += 1


@dataclass
class Crowd:
    """All of a process. What could not be opened counts as errors."""

    route: Route
    meter: Meter
    numbers: range
    closing: bool = False
    transports: list[asyncio.Transport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.count = Idle(asked=len(self.numbers))

    async def open(self) -> None:
        """Open all of them, as fast as the server takes them."""
        left = iter(self.numbers)
        hopeless = asyncio.Event()
        failed = 0

        async def opener() -> None:
            nonlocal failed
            for number in left:
                try:
                    transport = await self.route.open(Bystander(self), number)
                except (OSError, TimeoutError) as error:
                    failed += 1
                    kind = kind_of(error)
                    self.meter.fail(kind, str(error))
                    if kind in HOPELESS:
                        hopeless.set()
                else:
                    self.transports.append(transport)
                    self.count.opened += 1

        openers = [opener() for _ in range(min(AT_ONCE, len(self.numbers)))]
        if openers and not await until(hopeless, openers):
            untried = len(self.numbers) - self.count.opened - failed
            self.meter.fail(CONNECT_TIMEOUT, "", untried)

    def close(self) -> None:
        """End all that are open."""
        self.closing = True
        for transport in self.transports:
            transport.abort()
