"""Logging in to a Redis server: AUTH on a connection, before anything else is asked.

https://redis.io/docs/latest/commands/auth

Nothing that is told has the password in it: a server may repeat what it did not understand.
"""

import asyncio

from neverblock.load.kinds import CLOSED, LOGIN, WRONG, LoginError
from neverblock.load.redis import command
from neverblock.load.target import Target

#: Bytes of a reply that has no end.
LONGEST = 64 * 1024
#: What to do, by how a refusal begins: of Redis 6 and later, and of those before.
CURES = {
    "WRONGPASS": "check user and password (in a URL, % is written %25)",
    "ERR invalid password": "check the password (in a URL, % is written %25)",
    "ERR AUTH <password> called without": "leave the password out; this server wants none",
    "ERR Client sent AUTH": "leave the password out; this server wants none",
    "ERR wrong number of arguments": "leave the user out, redis://:PASSWORD@HOST:PORT; "
    "this server knows none",
    "NOAUTH": "write redis://:PASSWORD@HOST:PORT, or redis://USER:PASSWORD@HOST:PORT",
}


def words(target: Target) -> bytes:
    """What each connection has to say first; nothing where there is no password."""
    if target.password is None:
        return b""
    return command(b"AUTH", *filter(None, [target.user]), target.password)


def check(reply: bytes, target: Target) -> None:
    """Raises LoginError for a reply to AUTH, or to what was asked without, that lets nobody in."""
    if reply == b"+OK\r\n":
        return
    said = text = reply.strip().decode("utf-8", "backslashreplace")
    if target.password and target.password in reply:
        text = f"{said[:1]}words that have the password in them"
    for start, cure in CURES.items():
        if said.startswith(f"-{start}"):
            raise LoginError(LOGIN, text[1:].rstrip("."), cure)
    if said.startswith("-"):
        raise LoginError(LOGIN, text[1:])
    raise LoginError(WRONG, f"AUTH was answered by {text[:60]!r}")


class Login(asyncio.Protocol):
    """Has a connection until it is let in."""

    def __init__(self) -> None:
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.lost = False
        self._got = bytearray()

    async def enter(self, transport: asyncio.Transport, target: Target) -> None:
        """Say who we are. Raises LoginError, OSError."""
        transport.write(words(target))
        check(await self.reply, target)
        if self.lost:
            raise LoginError(CLOSED, "it let us in, and closed the connection")

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self.reply.done() and (b"\n" in data or len(self._got) > LONGEST):
            self.reply.set_result(bytes(self._got))

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if not self.reply.done():
            self.reply.set_exception(error or LoginError(CLOSED, "instead of an answer to AUTH"))
