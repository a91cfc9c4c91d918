"""Server models: one handler, every classic way to serve many clients."""

from neverblock.servers.blocking import BlockingStream
from neverblock.servers.handler import MODELS, Handler, Stream, StreamInfo
from neverblock.servers.server import serve

__all__ = ["MODELS", "BlockingStream", "Handler", "Stream", "StreamInfo", "serve"]
