"""Clients that leave as they like and handlers that fail: nobody else notices, nothing is left."""

from contextlib import ExitStack, suppress
from pathlib import Path

from tests.servers.models.matrix import Bind, Serve, room
from tests.servers.proc import children, eventually, holdings
from tests.servers.serving import Process, exactly, reset
from tests.servers.wire import Client, ask, end, everything


def test_an_abrupt_reset_harms_nobody(serve: Serve) -> None:
    with serve("lines") as server:
        for _ in range(5):
            rude = server.connect()
            assert ask(rude, b"hello\n") == b"hello\n"
            reset(rude)
        with server.connect() as client:
            assert ask(client, b"hello\n") == b"hello\n"
        assert server.stop() == 0
        assert "ERROR" not in server.log


def test_a_client_that_leaves_while_it_is_answered_harms_nobody(serve: Serve) -> None:
    with serve("stubborn") as server:
        rude = server.connect()
        rude.sendall(b"x")
        assert exactly(rude, 5) == bytes(5)  # And no more: the server is stuck in its answer.
        reset(rude)
        with server.connect() as client:
            client.sendall(b"x")
            assert exactly(client, 1_000_000) == bytes(1_000_000)
        assert server.stop() == 0
        assert "ERROR" not in server.log


def test_a_failing_handler_ends_its_own_connection_only(serve: Serve, model: str) -> None:
    with serve("failing") as server:
        with server.connect() as victim:
            victim.sendall(b"fail")
            if model != "iterative":
                with server.connect() as bystander:
                    assert everything(victim) == b""
                    assert ask(bystander, b"hello") == b"hello"
            assert everything(victim) == b""
        with server.connect() as later:
            assert ask(later, b"hello") == b"hello"
        assert server.stop() == 0
        assert server.log.count("ERROR neverblock.server: handler failed, closing ") == 1
        assert "LookupError: no such word" in server.log


def test_nothing_is_left_of_connections_however_they_ended(
    serve: Serve, model: str, bind: Bind
) -> None:
    clients = 1 if model == "iterative" else 4
    with serve("anything", *room(model, 20)) as server:
        visit(server)
        visit_all_ways(server, 1)  # What is made once, at the first need, is made by now.
        eventually(lambda: not children(server.pid))
        before = holdings(server.pid)
        visit_all_ways(server, clients)
        eventually(lambda: holdings(server.pid).within(before))
        visit(server)
        eventually(lambda: holdings(server.pid).within(before))
        assert server.stop() == 0
    if bind.kind == "unix":
        assert not Path(bind.url.removeprefix("unix://")).exists()


def visit(server: Process) -> None:
    """As a client does that behaves."""
    with server.connect() as client:
        assert ask(client, b"hello\n") == b"hello\n"
        end(client)
        assert everything(client) == b""


def visit_all_ways(server: Process, clients: int) -> None:
    """So many at once, and again for every way to leave."""
    for word in (b"fail\n", b"close\n", b"half a li", b"flood\n", b"hello\n"):
        for leave in (reset, hang_up, *([] if word == b"flood\n" else [see_the_end])):
            with ExitStack() as opened:
                visitors = [opened.enter_context(server.connect()) for _ in range(clients)]
                for visitor in visitors:
                    visitor.sendall(word)
                for visitor in visitors:
                    if word in (b"flood\n", b"hello\n"):
                        assert visitor.recv(1) in (b"h", b"\0")
                    leave(visitor)


def hang_up(visitor: Client) -> None:
    """Without a look at what may still come; the server may have closed long ago."""
    with suppress(OSError):
        end(visitor)


def see_the_end(visitor: Client) -> None:
    """Whatever it is."""
    hang_up(visitor)
    with suppress(OSError, EOFError):
        everything(visitor)
