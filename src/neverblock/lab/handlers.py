"""The handlers that experiments serve. Each runs under every model."""

from neverblock.servers import Stream


async def echo(stream: Stream) -> None:
    """Send back what comes."""
    async for chunk in stream:
        await stream.send(chunk)
