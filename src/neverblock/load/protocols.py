"""The protocols by name: what makes a client of each, and what has to be there before they ask."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

from neverblock.load.client import Client, Meter
from neverblock.load.echo import Echo, Messages
from neverblock.load.http import Http
from neverblock.load.kinds import CLOSED
from neverblock.load.login import check
from neverblock.load.plan import Plan, weights
from neverblock.load.redis import Commands, Redis
from neverblock.load.target import Target

Maker: TypeAlias = Callable[[Meter, Any], Client]
#: Opens a connection for a protocol.
Opener: TypeAlias = Callable[[asyncio.BaseProtocol], Awaitable[asyncio.Transport]]

#: Bytes of SETs that are under way at once.
BATCH = 256 * 1024


@dataclass(frozen=True)
class Protocol:
    """How a process speaks with the server."""

    make: Maker
    """A client, of a meter and a keeper."""
    prepare: Callable[[Opener, float], Awaitable[None]]
    """What has to be done before they ask, with so many seconds for each answer.

    Raises OSError (a LoginError where it is not let in), TimeoutError.
    """


async def nothing(opener: Opener, timeout: float) -> None:
    """Nothing has to be done."""


def protocol(plan: Plan) -> Protocol:
    """The target's. What all clients of a process send is made once."""
    match plan.parsed.protocol:
        case "redis":
            return redis(plan)
        case "http":
            request = get(plan)
            return Protocol(lambda m, keeper: Http(m, keeper, plan.pipeline, request), nothing)
    messages = Messages(plan.size)
    return Protocol(lambda m, keeper: Echo(m, keeper, plan.pipeline, messages), nothing)


def get(plan: Plan) -> bytes:
    """The request for a page (RFC 9110, 9.3.1)."""
    lines = [
        f"GET {plan.parsed.path} HTTP/1.1",
        f"Host: {plan.parsed.authority}",
        "User-Agent: neverblock",
        "Accept: */*",
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def redis(plan: Plan) -> Protocol:
    mix = weights(plan.mix)
    commands = Commands(plan.size, plan.keys, mix)
    # Clients begin at different places, so that not all of them set at the same time.
    places = count()

    def make(meter: Meter, keeper: object) -> Redis:
        return Redis(meter, keeper, plan.pipeline, commands, next(places))  # type: ignore[arg-type]

    async def prepare(opener: Opener, timeout: float) -> None:
        if mix.get("get"):
            await fill(opener, commands, plan.parsed, timeout)
        elif plan.parsed.password is not None:
            # Whether it is right, before all of them try it.
            (await opener(asyncio.Protocol())).abort()

    return Protocol(make, prepare)


async def fill(opener: Opener, commands: Commands, target: Target, timeout: float) -> None:
    """Set all keys. A server that refuses will refuse again, and be counted, when it is asked.

    Raises LoginError where it wants a password.
    """
    reader = asyncio.StreamReader()
    transport = await opener(asyncio.StreamReaderProtocol(reader))
    step = max(1, BATCH // commands.size)
    try:
        for first in range(0, commands.keys, step):
            batch = commands.sets[first : first + step]
            transport.writelines(batch)
            for _ in batch:
                async with asyncio.timeout(timeout):
                    line = await reader.readline()
                if not line.endswith(b"\n"):
                    raise ConnectionResetError(f"{CLOSED} while keys were set")
                if line.startswith(b"-NOAUTH"):
                    check(line, target)
                if not line.startswith((b"+", b"-")):
                    return
    finally:
        transport.abort()
