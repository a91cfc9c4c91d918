"""A worker of the loop model: a process with a loop of its own, which its supervisor hands sockets.

It accepts nothing. Each connection that it is handed stays the supervisor's as well until the
worker has said that it took it, which it does before it touches it. From then on nobody else has
it: it ends, at the latest, with this process.

Messages to a worker: ``serve`` number, scheme, family, address (with the socket); ``drain``;
``abort``. From a worker: ``ready``; ``failed`` setting, why; ``leaving`` (it got SIGTERM);
``report`` taken, ended, refused: numbers of connections; ``shed`` whether it is overloaded.
"""

import asyncio
import logging
import marshal
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import invalidate_caches
from types import FrameType
from typing import TypeAlias

from neverblock.errors import HandlerError, SettingsError
from neverblock.servers.bounded import Connection
from neverblock.servers.channel import Channel, Message
from neverblock.servers.handler import AnyHandler
from neverblock.servers.listen import Address
from neverblock.servers.loop import LoopServer
from neverblock.servers.settings import Settings
from neverblock.servers.shutdown import drain
from neverblock.servers.supervised import counted
from neverblock.servers.target import load

logger = logging.getLogger("neverblock.server")

#: Characters of what is told when it cannot serve.
LONGEST_REASON = 4000

#: Connections that one report tells the end of.
ENDS_AT_ONCE = 1000

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


def work(
    target: AnyHandler | str,
    settings: Settings,
    sock: socket.socket,
    new_event_loop: LoopFactory,
    mask: Iterable[int],
) -> int:
    """Serve what comes through ``sock`` until told to stop; the exit code of this process.

    ``mask`` are the signals to block from when they can be taken.
    """
    early: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        early.append(number)

    # Not ignored, which programs that the handler starts would inherit. Ctrl-C and a closing
    # terminal signal the whole group: what they mean is the supervisor's to say.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGTERM, remember)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        invalidate_caches()
        handler = load(target, settings) if isinstance(target, str) else target
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(handler, settings, sock, early))
    except SettingsError as error:
        return tell_failed(sock, error.name, error.reason)
    except (HandlerError, OSError) as error:
        return tell_failed(sock, "", str(error))
    return 0


def tell_failed(sock: socket.socket, setting: str, reason: str) -> int:
    """Say why this worker cannot serve; its exit code."""
    with suppress(OSError):  # The supervisor is gone, or has long been told that it could.
        sock.send(marshal.dumps(("failed", setting, reason[:LONGEST_REASON])))
    return 1


async def serve(
    handler: AnyHandler, settings: Settings, sock: socket.socket, early: list[int]
) -> None:
    server = WorkerServer(handler, settings, sock)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.tell_leaving)
    await server.start()
    server.tell_ready()
    if early:
        server.tell_leaving()
    await server.drains.wait()
    aborted = await drain(server, None, server.aborts)
    if aborted and server.orphaned:
        logger.warning(
            "drain timeout of %g s is over: %s reset", settings.drain_timeout, counted(aborted)
        )
    loop.remove_signal_handler(signal.SIGTERM)


class WorkerServer(LoopServer):
    """Serves the connections that come through a channel."""

    def __init__(self, handler: AnyHandler, settings: Settings, sock: socket.socket) -> None:
        super().__init__(handler, [], settings)
        self.drains = asyncio.Event()
        """The connections that are open are the last."""
        self.aborts = asyncio.Event()
        """They end now."""
        self.orphaned = False
        """Whether the supervisor is gone."""
        self._channel = Channel(sock, self._arrived)
        self._numbers: dict[Connection, int] = {}
        self._over: list[int] = []
        self._held: list[tuple[Message, int | None]] = []

    def tell_ready(self) -> None:
        self._channel.send(("ready",))

    def tell_leaving(self) -> None:
        """Ask the supervisor to send no more, and to say when it has."""
        self._channel.send(("leaving",))

    def _arrived(self) -> None:
        self._act()
        self._held = self._channel.receive()
        taken: list[int] = []
        refused: list[int] = []
        for message, descriptor in self._held:
            if message[0] == "serve":
                (refused if descriptor is None else taken).append(message[1])
        if taken or refused:
            self._channel.send(("report", taken, [], refused))
        if self._channel.congested:
            self._channel.pause()  # What the supervisor was not told is not touched.
            return
        self._act()
        if self._channel.ended and not self.orphaned:
            self._be_orphan()

    def _act(self) -> None:
        messages, self._held = self._held, []
        for message, descriptor in messages:
            match message:
                case ("serve", number, scheme, family, address):
                    if descriptor is not None:
                        self._serve(number, descriptor, scheme, family, address)
                case ("drain",):
                    self.drains.set()
                case ("abort",):
                    self.drains.set()
                    self.aborts.set()

    def _serve(
        self, number: int, descriptor: int, scheme: str, family: int, address: Address
    ) -> None:
        proto = socket.IPPROTO_TCP if scheme == "tcp" else 0
        sock = socket.socket(family, socket.SOCK_STREAM, proto, descriptor)
        try:
            connection = self._begin(sock, scheme, address)
        except (OSError, RuntimeError) as error:
            sock.close()
            logger.error("cannot serve a connection, closing it: %s", error)
            self._tell_ended(number)
        else:
            self._numbers[connection] = number
            self._began(connection)

    def _shed(self) -> None:
        self._channel.send(("shed", self._shedding.on))

    def _be_orphan(self) -> None:
        self.orphaned = True
        logger.error("the supervisor is gone: draining")
        self.drains.set()
        self.loop.call_later(self.settings.drain_timeout, self.aborts.set)

    def _ended(self, connection: Connection) -> None:
        super()._ended(connection)
        self._tell_ended(self._numbers.pop(connection))

    def _tell_ended(self, number: int) -> None:
        # All that end in one turn make one report.
        if not self._over:
            self.loop.call_soon(self._report)
        self._over.append(number)

    def _report(self) -> None:
        over, self._over = self._over, []
        for start in range(0, len(over), ENDS_AT_ONCE):
            self._channel.send(("report", [], over[start : start + ENDS_AT_ONCE], []))
