"""Without a loop: a plain function will do, and what needs a loop is named."""

import pytest

from tests.servers.models.matrix import APP, WITHOUT_LOOP, Serve
from tests.servers.serving import neverblock, served
from tests.servers.wire import ask, end, everything


@pytest.mark.parametrize("model", WITHOUT_LOOP)
def test_a_plain_function_will_do(serve: Serve) -> None:
    with serve("plain") as server:
        with server.connect() as client:
            assert ask(client, b"hello") == b"hello"
            end(client)
            assert everything(client) == b""
        assert server.stop() == 0


@pytest.mark.parametrize("model", WITHOUT_LOOP)
def test_a_plain_function_has_all_that_a_stream_can(serve: Serve) -> None:
    with serve("several") as server:
        with server.connect() as client:
            client.sendall(b"12line;x")
            assert everything(client) == b"line;12x"
        assert server.stop() == 0


def test_a_plain_function_is_refused_by_the_loop_model(app: str) -> None:
    refused = neverblock("serve", f"{app}:plain")
    assert refused.returncode == 2
    assert f"{app}:plain is not async; write `async def plain(stream)`" in refused.stderr
    assert "or serve it with --offload or --model thread" in refused.stderr


#: What a handler may await in vain, and how the error names it.
NEEDS = {
    "sleeping": "asyncio.sleep",
    "yielding": "asyncio.sleep",
    "waiting": "asyncio.Event.wait",
    "timing": "asyncio.timeout",
    "grouping": "asyncio.TaskGroup.__aenter__",
    "asking": "the running loop",
    "future": "a Future",
}


@pytest.mark.parametrize("model", WITHOUT_LOOP)
def test_what_needs_a_loop_is_named(app: str, model: str) -> None:
    with open(APP) as file:
        source = file.read().splitlines()
    with served(f"{app}:needing", "--model", model) as server:
        for handler in NEEDS:
            with server.connect() as client:
                client.sendall(handler.encode())
                assert everything(client) == b""
        assert server.stop() == 0
    lines = [line for line in server.log.splitlines() if "EventLoopNeededError: " in line]
    for line, (handler, awaited) in zip(lines, NEEDS.items(), strict=True):
        place, _, rest = line.partition("EventLoopNeededError: ")[2].partition(" awaits ")
        assert rest.startswith(f"{awaited}, which needs an event loop; the {model} model has none")
        assert "call what blocks instead" in rest
        file_name, _, number = place.rpartition(":")
        assert file_name == app
        start = source.index(f"async def {handler}():")
        assert start < int(number) - 1 <= start + 4


@pytest.mark.parametrize("handler", ["own_mistake", "misuse"])
def test_a_handler_s_own_errors_stay_its_own(app: str, handler: str) -> None:
    with served(f"{app}:{handler}", "--model", "thread") as server:
        with server.connect() as client:
            client.sendall(b"go")
            assert everything(client) == b""
        assert server.stop() == 0
        assert "\nRuntimeError: " in server.log
        assert "EventLoopNeededError" not in server.log


@pytest.mark.parametrize("model", WITHOUT_LOOP)
def test_the_error_is_raised_where_the_await_is(app: str, model: str) -> None:
    with served(f"{app}:caught", "--model", model) as server, server.connect() as client:
        assert everything(client) == b"EventLoopNeededError"


@pytest.mark.parametrize("model", WITHOUT_LOOP)
def test_a_plain_function_may_run_a_loop_of_its_own(app: str, model: str) -> None:
    with served(f"{app}:running_own_loop", "--model", model) as server, server.connect() as client:
        assert everything(client) == b"done"
