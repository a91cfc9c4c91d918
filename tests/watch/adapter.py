"""The client of a debug adapter, as an editor has one.

https://microsoft.github.io/debug-adapter-protocol/specification
"""

from __future__ import annotations

import json
import socket
from itertools import count
from typing import Any

Message = dict[str, Any]


class Adapter:
    """One connection: what is asked for, what is answered, and what happens meanwhile."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._input = self._socket.makefile("rb")
        self._numbers = count(1)
        self._received: list[Message] = []

    def close(self) -> None:
        self._input.close()
        self._socket.close()

    def send(self, command: str, **arguments: Any) -> None:
        """Ask, without waiting for the answer."""
        request = {"seq": next(self._numbers), "type": "request", "command": command}
        body = json.dumps({**request, "arguments": arguments}).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    def ask(self, command: str, **arguments: Any) -> Message:
        """Ask, and wait for what is answered."""
        self.send(command, **arguments)
        return self.answer(command)

    def answer(self, command: str) -> Message:
        found = self._until("response", "command", command)
        assert found["success"], found
        return found.get("body") or {}

    def event(self, name: str) -> Message:
        """Wait until that happens, if it has not."""
        return self._until("event", "event", name).get("body") or {}

    def wait_until_gone(self) -> None:
        while self._message() is not None:
            pass

    def _until(self, kind: str, key: str, name: str) -> Message:
        while True:
            for message in self._received:
                if message["type"] == kind and message[key] == name:
                    self._received.remove(message)
                    return message
            received = self._message()
            assert received is not None, f"the adapter went away before {name}"
            self._received.append(received)

    def _message(self) -> Message | None:
        size = 0
        while line := self._input.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        return json.loads(self._input.read(size)) if size else None
