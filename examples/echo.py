"""Sends back whatever a client sends, until the client hangs up.

neverblock serve examples/echo.py:handle --bind tcp://127.0.0.1:7000
nc 127.0.0.1 7000
"""

from neverblock.servers import Stream


async def handle(stream: Stream) -> None:
    async for chunk in stream:
        await stream.send(chunk)
