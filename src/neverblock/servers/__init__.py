"""Server models: one handler, every classic way to serve many clients."""

from neverblock.servers.handler import Handler, Stream, StreamInfo
from neverblock.servers.server import serve

__all__ = ["Handler", "Stream", "StreamInfo", "serve"]
