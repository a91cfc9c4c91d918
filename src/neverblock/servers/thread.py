"""The thread model: a thread per connection, up to a bound.

Who accepts: the main thread. Who reads and waits: each connection's own thread. Threads share the
memory of the process, so what handlers share needs a lock.
"""

import socket
from functools import partial

from neverblock.servers import threads
from neverblock.servers.blocking import SocketStream, serve_stream
from neverblock.servers.bounded import BoundedServer, described
from neverblock.servers.listen import Address


class ThreadServer(BoundedServer):
    """Accepts on listeners and starts a thread for each connection."""

    def _begin(self, sock: socket.socket, scheme: str, address: Address) -> SocketStream:
        info = described(sock, scheme, address, self.model)
        stream = SocketStream(sock, info, self.settings, self.tls)
        threads.start(partial(self._serve, stream), f"serve {info.peer}", self.settings.stack_size)
        return stream

    def _serve(self, stream: SocketStream) -> None:
        serve_stream(self.handler, stream, self._handling_elsewhere)
        self._ended_elsewhere(stream)
