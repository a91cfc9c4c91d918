"""The servers that other tests here use leave nothing behind."""

from __future__ import annotations

import gc
import socket
from contextlib import suppress

from tests.load import stubs
from tests.load.stubs import stub


def test_a_connection_that_was_just_accepted_is_closed() -> None:
    for _ in range(100):
        with stub(stubs.silent) as address:
            host, _, port = address.partition(":")
            clients = [socket.create_connection((host, int(port))) for _ in range(5)]
        for client in clients:
            with client, suppress(ConnectionResetError):
                assert client.recv(1) == b""
    gc.collect()
