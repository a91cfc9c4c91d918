"""The iterative model: accept, serve to the end, accept the next.

Who accepts: the main thread, and only while nobody is served; everyone else waits in the kernel's
listen queue, in order. Who reads and waits: one thread. The main one stays free for signals. It is
a pool of one thread whose queue has no room.
"""

from neverblock.servers.pool import PoolServer


class IterativeServer(PoolServer):
    """Serves one connection at a time."""

    def _size(self) -> int:
        return 1
