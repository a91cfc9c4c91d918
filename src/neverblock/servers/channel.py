"""Messages between a supervisor and a worker, each whole and in order, a descriptor with some.

A pair of Unix sockets that keep messages apart (SOCK_SEQPACKET, unix(7)): a descriptor (SCM_RIGHTS)
cannot be taken for another message's. Sending never blocks. The two ends are one program, forked:
they agree on the format, marshal's.
"""

import asyncio
import marshal
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

#: What it is, and the rest as it needs.
Message: TypeAlias = tuple[Any, ...]

#: Bytes of the longest message.
LONGEST = 32 * 1024

#: Messages received before the loop turns to its other sources again.
AT_ONCE = 64

#: A descriptor as SCM_RIGHTS carries it, and the room that it takes.
DESCRIPTOR = struct.Struct("i")
SPACE = socket.CMSG_LEN(DESCRIPTOR.size)
CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Channel:
    """One end, in the running loop, which calls ``arrived`` as long as there is something."""

    def __init__(self, sock: socket.socket, arrived: Callable[[], object]) -> None:
        self.sock = sock
        self.ended = False
        """Whether the other end is closed, and all that it sent was received."""
        self._loop = asyncio.get_running_loop()
        self._arrived = arrived
        self._unsent: deque[bytes] = deque()
        self._paused = False
        sock.setblocking(False)
        self._loop.add_reader(sock, arrived)

    @property
    def congested(self) -> bool:
        """Whether something waits until the other end has received more."""
        return bool(self._unsent)

    def send(self, message: Message) -> None:
        """Send, as soon as there is room; to an end that is closed, nothing."""
        data = marshal.dumps(message)
        if self._unsent:
            self._unsent.append(data)
        elif not self._sent(data):
            self._unsent.append(data)
            self._loop.add_writer(self.sock, self._flush)

    def hand(self, message: Message, descriptor: int) -> None:
        """Send with a duplicate of a descriptor, now. Raises OSError where that cannot be."""
        if self._unsent:
            raise BlockingIOError("the channel is full")
        socket.send_fds(self.sock, [marshal.dumps(message)], [descriptor])

    def receive(self) -> list[tuple[Message, int | None]]:
        """Some messages, each with its descriptor: none where this process has no room for it."""
        messages: list[tuple[Message, int | None]] = []
        while len(messages) < AT_ONCE:
            try:
                # Not socket.recv_fds(), which takes flags and leaves them out.
                data, ancillary, _, _ = self.sock.recvmsg(LONGEST, SPACE, CLOSE_ON_EXEC)
            except (BlockingIOError, InterruptedError):
                break
            except ConnectionResetError:  # Closed before it received all; what it sent follows.
                continue
            if not data:
                self.ended = True
                self._loop.remove_reader(self.sock)
                break
            descriptor = DESCRIPTOR.unpack(ancillary[0][2])[0] if ancillary else None
            messages.append((marshal.loads(data), descriptor))
        return messages

    def pause(self) -> None:
        """Call ``arrived`` when all is sent, not before.

        One end may do so; if both did, each might wait for the other for ever.
        """
        self._paused = True
        self._loop.remove_reader(self.sock)

    def close(self) -> None:
        """Close this end. What was not sent is dropped."""
        if self.sock.fileno() != -1:
            self._loop.remove_reader(self.sock)
            self._loop.remove_writer(self.sock)
            self.sock.close()
        self._unsent.clear()

    def _sent(self, data: bytes) -> bool:
        try:
            self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            pass  # Nobody is there any more; whoever has to know watches the process.
        return True

    def _flush(self) -> None:
        while self._unsent:
            if not self._sent(self._unsent[0]):
                return
            self._unsent.popleft()
        self._loop.remove_writer(self.sock)
        if self._paused:
            self._paused = False
            self._loop.add_reader(self.sock, self._arrived)
            self._arrived()
