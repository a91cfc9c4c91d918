"""An echo server that blocks for 10 ms before each answer, as a call of a slow library would."""

import time

from neverblock.servers import Stream

SECONDS = 0.01


async def handle(stream: Stream) -> None:
    async for chunk in stream:
        time.sleep(SECONDS)
        await stream.send(chunk)
