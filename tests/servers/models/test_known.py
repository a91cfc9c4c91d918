"""What a handler knows: of its connection, of the others, of its own context."""

import os

from tests.servers.models.matrix import Bind, Serve
from tests.servers.serving import served
from tests.servers.wire import everything


def test_what_is_known_of_a_connection(serve: Serve, model: str, bind: Bind) -> None:
    with serve("told") as server:
        with server.connect() as client:
            scheme, peer, local, named, backend = eval(everything(client))
            if scheme == "tcp":
                assert peer == "{}:{}".format(*client.getsockname())
        assert server.url == f"{scheme}://{local}"
        assert scheme == bind.url.partition(":")[0]
        if scheme == "unix":
            assert peer == f"unix (pid {os.getpid()})"
        assert named == model
        assert bool(backend) == (model == "loop")
        assert server.stop() == 0


def test_each_connection_has_a_context_of_its_own(app: str, model: str) -> None:
    options = ("--pool-size", "1") if model == "pool" else ()
    with served(f"{app}:context", "--model", model, *options) as server:
        for _ in range(3):
            with server.connect() as client:
                assert everything(client) == b"1"


def test_memory_is_shared_unless_each_has_a_process(app: str, model: str) -> None:
    with served(f"{app}:counting", "--model", model) as server:
        counts = []
        for _ in range(3):
            with server.connect() as client:
                counts.append(int(everything(client)))
    assert counts == ([1, 1, 1] if model == "process" else [1, 2, 3])
