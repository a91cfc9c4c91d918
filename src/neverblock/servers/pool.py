"""The pool model: a fixed number of threads, and a bounded queue of accepted connections.

Who accepts: the main thread, as long as the queue has room; what is over waits in the kernel's
listen queue, not in memory. Who reads and waits: the pool's threads, each for one connection at a
time, from its beginning to its end. Threads share the memory of the process.
"""

import socket
from functools import partial

from neverblock.servers.blocking import SocketStream, serve_stream
from neverblock.servers.bounded import BoundedServer, described
from neverblock.servers.handler import AnyHandler
from neverblock.servers.listen import Address, Listener
from neverblock.servers.settings import Settings
from neverblock.servers.threads import Threads


class PoolServer(BoundedServer):
    """Accepts up to ``max_connections``; ``pool_size`` of them are served, the others queue."""

    def __init__(self, handler: AnyHandler, listeners: list[Listener], settings: Settings) -> None:
        super().__init__(handler, listeners, settings)
        self._threads = Threads(self._size(), self.model, settings.stack_size)

    async def start(self) -> None:
        self._threads.start()
        await super().start()

    def abort(self) -> int:
        aborted = super().abort()
        self._threads.end()
        return aborted

    def _size(self) -> int:
        return self.settings.pool_size

    def _begin(self, sock: socket.socket, scheme: str, address: Address) -> SocketStream:
        info = described(sock, scheme, address, self.model)
        stream = SocketStream(sock, info, self.settings, self.tls)
        self._threads.submit(partial(self._serve, stream))
        return stream

    def _serve(self, stream: SocketStream) -> None:
        serve_stream(self.handler, stream, self._handling_elsewhere)
        self._ended_elsewhere(stream)
