"""The thread model: a thread per connection, up to a bound.

Who accepts: the main thread. Who reads and waits: each connection's own thread. Threads share the
memory of the process, so what handlers share needs a lock.
"""

import socket
import threading

from neverblock.servers.blocking import SocketStream
from neverblock.servers.bounded import BoundedServer
from neverblock.servers.handler import AnyHandler, StreamInfo
from neverblock.servers.listen import Listener


class ThreadServer(BoundedServer):
    """Accepts on listeners and starts a thread for each connection."""

    def __init__(
        self, handler: AnyHandler, listeners: list[Listener], max_connections: int
    ) -> None:
        super().__init__("thread", handler, listeners, max_connections)

    def _begin(self, sock: socket.socket, info: StreamInfo) -> SocketStream:
        stream = SocketStream(sock, info)
        # A daemon: one that is stuck after the drain must not keep the process.
        threading.Thread(
            target=self._serve_here, args=(stream,), name=f"serve {info.peer}", daemon=True
        ).start()
        return stream
