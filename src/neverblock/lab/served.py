"""A server under measurement: ``python -m neverblock.lab.served DESCRIPTOR REQUEST``.

It serves as any program would, by ``neverblock.serve`` in a loop of the kind that was asked for. By
the socket of that descriptor it tells where it listens, and what the multiplexer has counted (those
of all workers together) when a byte comes; when the other end is closed it stops, so no server is
left behind.
"""

import asyncio
import importlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from neverblock import Loop, Watch
from neverblock.errors import BindError, HandlerError, SettingsError
from neverblock.lab.census import Census
from neverblock.servers import serve


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setblocking(False)
    request = json.loads(sys.argv[2])
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    try:
        with asyncio.Runner(loop_factory=partial(made, request)) as runner:
            runner.run(serving(request, control))
    except (BindError, HandlerError, SettingsError) as error:
        sys.exit(str(error))


def made(request: dict[str, Any]) -> asyncio.AbstractEventLoop:
    peer = request["peer"]
    if peer is None:
        threshold = request["stall_threshold"]
        return Loop(request["backend"], watch=Watch(threshold=threshold) if threshold else None)
    if peer == "asyncio":
        return asyncio.SelectorEventLoop()
    loop: asyncio.AbstractEventLoop = importlib.import_module(peer).new_event_loop()
    return loop


async def serving(request: dict[str, Any], control: socket.socket) -> None:
    loop = asyncio.get_running_loop()

    def tell(**what: Any) -> None:
        with suppress(BlockingIOError, ConnectionError):  # Nobody reads: it may do without.
            control.send(json.dumps(what).encode() + b"\n")

    def counted(statistics: Mapping[str, int]) -> None:
        tell(at=time.monotonic(), statistics=statistics)

    census = Census(counted) if request["options"].get("workers") else None

    def asked() -> None:
        try:
            asked_for = control.recv(100)
        except BlockingIOError:
            return
        except ConnectionError:
            asked_for = b""
        if not asked_for:
            loop.remove_reader(control.fileno())
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if census is not None:
            census.take()
        else:
            counted(loop.statistics()["multiplexer"] if isinstance(loop, Loop) else {})

    def listening(url: str, model: str, backend: str) -> None:
        tell(url=url)

    loop.add_reader(control.fileno(), asked)
    await serve(request["handler"], request["bind"], listening=listening, **request["options"])


if __name__ == "__main__":
    main()
