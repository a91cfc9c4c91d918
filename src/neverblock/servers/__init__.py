"""Server models: one handler, every classic way to serve many clients."""

from neverblock.servers.handler import Handler, Stream, StreamInfo, TlsInfo
from neverblock.servers.plain import BlockingStream
from neverblock.servers.server import Server, serve
from neverblock.servers.settings import MODELS, Options, Settings

__all__ = [
    "MODELS",
    "BlockingStream",
    "Handler",
    "Options",
    "Server",
    "Settings",
    "Stream",
    "StreamInfo",
    "TlsInfo",
    "serve",
]
