"""Who is served when: side by side, one after the other, up to a bound."""

from contextlib import ExitStack

import pytest

from tests.servers.models.matrix import SIDE_BY_SIDE, Serve, room
from tests.servers.serving import exactly, served
from tests.servers.wire import says_nothing

#: TLS begins once a connection is accepted, so its clients could not ask before that.
WITHOUT_TLS = pytest.mark.parametrize("bind", ["tcp", "unix"], indirect=True)


@pytest.mark.parametrize("model", SIDE_BY_SIDE)
def test_two_hundred_clients_are_served_side_by_side(serve: Serve, model: str) -> None:
    with serve("echo", *room(model, 200)) as server, ExitStack() as opened:
        clients = [opened.enter_context(server.connect()) for _ in range(200)]
        for round_ in range(3):
            for number, client in enumerate(clients):
                client.sendall(b"%d %d;" % (round_, number))
            for number, client in reversed(list(enumerate(clients))):
                expected = b"%d %d;" % (round_, number)
                assert exactly(client, len(expected)) == expected
        assert server.stop() == 0


@WITHOUT_TLS
@pytest.mark.parametrize("model", ["iterative"])
def test_the_iterative_model_serves_two_hundred_in_order(serve: Serve) -> None:
    with serve("lines") as server, ExitStack() as opened:
        clients = [opened.enter_context(server.connect()) for _ in range(200)]
        # The last asks first; each is answered once all before it have left.
        for client in reversed(clients):
            client.sendall(b"hello\n")
        for client, following in zip(clients, [*clients[1:], None], strict=True):
            assert exactly(client, 6) == b"hello\n"
            assert following is None or says_nothing(following)
            client.close()
        assert server.stop() == 0
        assert "ERROR" not in server.log


@WITHOUT_TLS
@pytest.mark.parametrize("model", SIDE_BY_SIDE)
def test_what_is_over_the_bound_waits_for_its_turn(serve: Serve, model: str) -> None:
    options = ["--max-connections", "2", *(["--pool-size", "2"] if model == "pool" else [])]
    with serve("lines", *options) as server, ExitStack() as opened:
        clients = [opened.enter_context(server.connect()) for _ in range(3)]
        for client in clients:
            client.sendall(b"hello\n")
        assert exactly(clients[1], 6) == b"hello\n"
        assert exactly(clients[0], 6) == b"hello\n"
        assert says_nothing(clients[2])
        clients[0].close()
        assert exactly(clients[2], 6) == b"hello\n"
        for client in clients[1:]:
            client.close()
        assert server.stop() == 0


def test_a_pool_s_queue_is_served_when_a_thread_is_free(app: str) -> None:
    with served(f"{app}:lines", "--model", "pool", "--pool-size", "1") as server:
        with server.connect() as first, server.connect() as queued, server.connect() as waiting:
            for client in (first, queued, waiting):
                client.sendall(b"hello\n")
                assert exactly(client, 6) == b"hello\n"
                client.close()
        assert server.stop() == 0
