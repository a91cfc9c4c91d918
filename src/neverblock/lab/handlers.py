"""The handlers that experiments serve. Each runs under every model."""

import asyncio
import time
from typing import Final

from neverblock.errors import IncompleteReceiveError
from neverblock.servers import Stream

#: Seconds that a blocking call takes.
BLOCKED: Final = 0.2


async def echo(stream: Stream) -> None:
    """Send back what comes."""
    async for chunk in stream:
        await stream.send(chunk)


async def blocks(stream: Stream) -> None:
    """Answer each line; sleep for BLOCKED before that where it is "block"."""
    while line := await question(stream):
        if line == b"block\n":
            time.sleep(BLOCKED)  # noqa: ASYNC251 - it is what is measured
        await stream.send(line)


async def hands_over(stream: Stream) -> None:
    """The same, where the sleep is in another thread."""
    while line := await question(stream):
        if line == b"block\n":
            await asyncio.to_thread(time.sleep, BLOCKED)
        await stream.send(line)


async def question(stream: Stream) -> bytes:
    """The next line; nothing where no other comes."""
    try:
        return await stream.receive_until(b"\n")
    except IncompleteReceiveError:
        return b""


async def works(stream: Stream) -> None:
    """Do what each line says, "wait 0.01" or "compute 0.01", for so many seconds; then answer."""
    while line := await question(stream):
        kind, seconds = line.split()
        if kind == b"compute":
            compute(float(seconds))
        elif looping():
            await asyncio.sleep(float(seconds))
        else:
            time.sleep(float(seconds))  # noqa: ASYNC251 - there is nobody to be kept waiting
        await stream.send(line)


def compute(seconds: float) -> None:
    """Use so much processor time in this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def looping() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
