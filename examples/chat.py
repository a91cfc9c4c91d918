"""A chat: what one client writes, all of them read. Made for a terminal.

    neverblock serve examples/chat.py:handle --bind tcp://127.0.0.1:7000
    nc 127.0.0.1 7000

The first line is a nickname, every other one goes to everybody; `/who` tells who is there.

Clients that speak with each other need one memory, so this runs under the models that have one:
`loop`, `thread` and `pool`. Under `process` each client would sit in a room of its own, and under
`iterative` alone. The same goes for `--workers`: each worker is a room.

Nobody may wait for somebody else's reader. So a message is not sent by its writer but put into
each member's outbox, which is flushed by a task (loop) or a thread (thread, pool) of that member's
own for as long as there is something in it. The outbox is bounded, and the trade-off is this: who
does not keep up misses lines, and is told how many. The others notice nothing, and the server's
memory is safe. To close the connection instead would be right where a line must not be missed.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress

from neverblock.errors import (
    ConnectionLostError,
    IncompleteReceiveError,
    LimitExceededError,
    StreamClosedError,
)
from neverblock.servers import Stream

#: Read by the server: the other models are refused.
models = ("thread", "pool", "loop")

MAX_LINE = 1000
MAX_NICKNAME = 20
#: Lines that may wait for a member.
OUTBOX = 200


class Member:
    """Who is in the room, and what is still to be sent to them. Used with LOCK held."""

    def __init__(self, stream: Stream, nickname: str) -> None:
        self.stream = stream
        self.nickname = nickname
        self._outbox: deque[bytes] = deque()
        self._missed = 0
        self._flushing: asyncio.Task[None] | threading.Thread | None = None

    def tell(self, line: str) -> None:
        """Let them read a line, soon; this never waits."""
        if len(self._outbox) == OUTBOX:
            self._missed += 1
            return
        self._outbox.append(f"{line}\n".encode())
        if self._flushing is None:
            self._flushing = self._begin_flushing()

    def _begin_flushing(self) -> "asyncio.Task[None] | threading.Thread | None":
        if self.stream.info.model == "loop":
            return asyncio.create_task(self._flush())
        # Its awaits are blocking calls there, so a thread runs it in one go.
        thread = threading.Thread(target=lambda: run(self._flush()), daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return None  # The system has no thread to spare: the next line tries again.
        return thread

    async def _flush(self) -> None:
        try:
            while lines := self._take():
                await self.stream.send(lines)
        except (ConnectionLostError, StreamClosedError):
            pass  # They left; the outbox goes with them.

    def _take(self) -> bytes:
        with LOCK:
            lines = b"".join(self._outbox)
            self._outbox.clear()
            if self._missed:
                lines += f"* you missed {self._missed} lines: read faster\n".encode()
                self._missed = 0
            if not lines:
                self._flushing = None
            return lines


#: Held while the room is looked at or changed, never while anybody is waited for. Under the loop
#: model it is always free.
LOCK = threading.Lock()
#: By nickname, in small letters.
ROOM: dict[str, Member] = {}


async def handle(stream: Stream) -> None:
    """Serve one client, to their end."""
    member = None
    try:
        member = await enter(stream)
        while True:
            line = await read(stream)
            with LOCK:
                if line == "/who":
                    member.tell("* here: " + ", ".join(each.nickname for each in ROOM.values()))
                elif line:
                    tell_everybody(f"<{member.nickname}> {line}")
    except LimitExceededError:
        await stream.send(f"* a line has at most {MAX_LINE} bytes; good-bye\n".encode())
    except IncompleteReceiveError:
        pass  # They left, or the server comes to its end.
    finally:
        if member is not None:
            leave(member)


async def enter(stream: Stream) -> Member:
    """Ask for a nickname until it is one to be had."""
    await stream.send(b"* your nickname?\n")
    while True:
        nickname = await read(stream)
        with LOCK:
            objection = objection_to(nickname)
            if objection is None:
                tell_everybody(f"* {nickname} is here")
                member = ROOM[nickname.lower()] = Member(stream, nickname)
                member.tell(f"* welcome, {nickname}; /who tells who is here")
                return member
        await stream.send(f"* {objection}; another one?\n".encode())


def objection_to(nickname: str) -> str | None:
    if not nickname or len(nickname) > MAX_NICKNAME or " " in nickname:
        return f"a nickname is 1 to {MAX_NICKNAME} letters without a space"
    return f"{nickname} is taken" if nickname.lower() in ROOM else None


def leave(member: Member) -> None:
    with LOCK:
        del ROOM[member.nickname.lower()]
        tell_everybody(f"* {member.nickname} left")


def tell_everybody(line: str) -> None:
    """With LOCK held, so that all read the lines in the same order."""
    for member in ROOM.values():
        member.tell(line)


async def read(stream: Stream) -> str:
    """The next line, without what could play tricks on a terminal."""
    line = (await stream.receive_until(b"\n", MAX_LINE)).decode(errors="replace")
    return "".join(each for each in line if each.isprintable()).strip()


def run(coroutine: Coroutine[object, object, None]) -> None:
    """Run a coroutine that never suspends."""
    with suppress(StopIteration):
        coroutine.send(None)
