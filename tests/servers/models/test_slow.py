"""Readers that take their time: the server keeps little for each, and others are served."""

from contextlib import ExitStack

import pytest

from tests.servers.models.handlers import PIECE
from tests.servers.models.matrix import Serve, room
from tests.servers.proc import peak
from tests.servers.serving import exactly

#: Bytes that each reader asks for; all of them together are far more than the server may keep.
SIZE = 200 * PIECE


@pytest.mark.memory
def test_slow_readers_cost_little_memory_and_nobody_s_time(serve: Serve, model: str) -> None:
    readers = 1 if model == "iterative" else 20
    with serve("generous", *room(model, readers + 1)) as server, ExitStack() as opened:
        clients = [opened.enter_context(server.connect()) for _ in range(readers)]
        for client in clients:
            client.sendall(b"1\n")
            assert len(exactly(client, PIECE)) == PIECE
        before = peak(server.pid)
        for client in clients:
            client.sendall(b"%d\n" % SIZE)
        if model != "iterative":
            with server.connect() as bystander:
                for _ in range(50):
                    bystander.sendall(b"1\n")
                    assert len(exactly(bystander, PIECE)) == PIECE
        # A little of each, then the next: nobody is ever done, and none is left out.
        for _ in range(SIZE // PIECE):
            for client in clients:
                assert len(exactly(client, PIECE)) == PIECE
        assert peak(server.pid) - before < readers * 1024
        for client in clients:
            client.close()
        assert server.stop() == 0
        assert "ERROR" not in server.log
