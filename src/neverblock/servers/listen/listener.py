"""The sockets of one bind, and giving back what they took: descriptors, a socket's file."""

import os
import socket
from contextlib import suppress
from typing import Self

from neverblock.servers.listen.bind import Bind
from neverblock.servers.listen.files import identity, locked


class Listener:
    """The sockets of one bind; closing them is the caller's: ``close``, or ``with``.

    ``owns_file`` says that the file of a Unix socket is this process's to remove.
    """

    def __init__(self, bind: Bind, sockets: list[socket.socket], owns_file: bool = False) -> None:
        self.bind = bind
        self.sockets = sockets
        self._file = identity(bind.path) if owns_file else None

    @property
    def url(self) -> str:
        """The bind's URL, with the port that the kernel chose for port 0."""
        return self.bind.url

    def close(self) -> None:
        """Close the sockets, and remove the file of a Unix one unless it is somebody else's now."""
        for sock in self.sockets:
            sock.close()
        if self._file is not None:
            with suppress(OSError), locked(os.path.dirname(self.bind.path)):
                # The directory may be gone, or closed to us by now: then so is the file.
                if identity(self.bind.path) == self._file:
                    os.unlink(self.bind.path)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
