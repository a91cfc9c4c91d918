"""The pool model: a fixed number of threads, and a bounded queue of accepted connections.

Who accepts: the main thread, as long as the queue has room; what is over waits in the kernel's
listen queue, not in memory. Who reads and waits: the pool's threads, each for one connection at a
time, from its beginning to its end. Threads share the memory of the process.
"""

import queue
import socket
import threading

from neverblock.servers.blocking import SocketStream
from neverblock.servers.bounded import BoundedServer
from neverblock.servers.handler import AnyHandler, StreamInfo
from neverblock.servers.listen import Listener


class PoolServer(BoundedServer):
    """Accepts up to ``max_connections``; ``pool_size`` of them are served, the others queue."""

    def __init__(
        self,
        handler: AnyHandler,
        listeners: list[Listener],
        pool_size: int,
        max_connections: int,
        model: str = "pool",
    ) -> None:
        super().__init__(model, handler, listeners, max_connections)
        self._accepted: queue.SimpleQueue[SocketStream | None] = queue.SimpleQueue()
        # Daemons: one that is stuck after the drain must not keep the process.
        self._threads = [
            threading.Thread(target=self._work, name=f"{model} {number}", daemon=True)
            for number in range(1, pool_size + 1)
        ]

    async def start(self) -> None:
        for thread in self._threads:
            thread.start()
        await super().start()

    def abort(self) -> int:
        aborted = super().abort()
        for _ in self._threads:
            self._accepted.put(None)
        return aborted

    def _begin(self, sock: socket.socket, info: StreamInfo) -> SocketStream:
        stream = SocketStream(sock, info)
        self._accepted.put(stream)
        return stream

    def _work(self) -> None:
        while (stream := self._accepted.get()) is not None:
            self._serve_here(stream)
