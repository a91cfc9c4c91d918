"""Limits of descriptors: raised as far as a server needs, refused where they would not do."""

import resource
from contextlib import ExitStack
from pathlib import Path

import pytest

from neverblock.servers import MODELS
from tests.servers.serving import exactly, neverblock, served
from tests.servers.wrappers import limited

ECHO = "examples/echo.py:handle"

TELLING = """
import resource

async def handle(stream):
    await stream.send(repr(resource.getrlimit(resource.RLIMIT_NOFILE)).encode())
"""


@pytest.fixture
def telling(tmp_path: Path) -> str:
    path = tmp_path / "app.py"
    path.write_text(TELLING)
    return f"{path}:handle"


@pytest.fixture
def hard() -> int:
    """The hard limit of this process, which no test here needs to be above."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit != resource.RLIM_INFINITY and limit < 2048:
        pytest.skip(f"needs 2,048 descriptors; the hard limit is {limit}")
    return limit


@pytest.mark.parametrize("model", ["loop", "thread"])
def test_the_soft_limit_is_raised_to_what_the_bound_needs(
    telling: str, hard: int, model: str
) -> None:
    options = ("--model", model, "--max-connections", "500")
    with (
        served(telling, *options, wrapper=limited(soft=256, hard=1024)) as server,
        server.connect() as client,
    ):
        assert exactly(client, 100) == b"(564, 1024)"


def test_without_a_bound_it_is_raised_to_the_hard_limit(telling: str, hard: int) -> None:
    with (
        served(telling, wrapper=limited(soft=256, hard=2048)) as server,
        server.connect() as client,
    ):
        assert exactly(client, 100) == b"(2048, 2048)"


def test_it_is_never_lowered(telling: str, hard: int) -> None:
    options = ("--max-connections", "10")
    with (
        served(telling, *options, wrapper=limited(soft=1000, hard=2048)) as server,
        server.connect() as client,
    ):
        assert exactly(client, 100) == b"(1000, 2048)"


def test_the_parent_of_processes_needs_none_for_its_children(telling: str, hard: int) -> None:
    options = ("--model", "process", "--max-connections", "5000")
    with (
        served(telling, *options, wrapper=limited(soft=200, hard=1024)) as server,
        server.connect() as client,
    ):
        assert exactly(client, 100) == b"(200, 1024)"


@pytest.mark.parametrize("check", [(), ("--check",)])
@pytest.mark.parametrize(
    "model", [model for model in MODELS if model in ("loop", "thread", "pool")]
)
def test_a_bound_above_the_hard_limit_is_refused(
    hard: int, model: str, check: tuple[str, ...]
) -> None:
    options = ("--model", model, "--max-connections", "2000", *check)
    refused = neverblock("serve", ECHO, *options, wrapper=limited(soft=256, hard=1024))
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr == (
        "neverblock: --max-connections: 2000 connections need 2064 descriptors, and the hard limit "
        "of this process is 1024; ask for 960 at most, or raise it: ulimit -Hn 2064 "
        "(LimitNOFILE=2064 in a systemd unit)\n"
    )


def test_what_is_asked_for_at_most_can_be_had(hard: int) -> None:
    options = ("--max-connections", "960")
    with served(ECHO, *options, wrapper=limited(soft=256, hard=1024)) as server:
        assert server.stop() == 0


def test_a_bound_above_what_select_can_hold_is_refused() -> None:
    refused = neverblock("serve", ECHO, "--backend", "select", "--max-connections", "1000")
    assert refused.returncode == 2
    assert refused.stderr == (
        "neverblock: --max-connections: 1000 connections need 1064 descriptors, and select can "
        "watch no more than 1024; ask for 960 at most, or choose the backend epoll or poll\n"
    )


def test_under_select_what_is_past_its_limit_is_closed_and_told(hard: int) -> None:
    options = ("--backend", "select")
    with (
        served(ECHO, *options, wrapper=limited(soft=256, hard=2048)) as server,
        ExitStack() as opened,
    ):
        clients = [opened.enter_context(server.connect()) for _ in range(1100)]
        assert exactly(clients[-1], 1) == b""
        server.wait_until_logged("closing it: select cannot watch descriptor")
        for client in (clients[0], clients[900]):
            client.sendall(b"hello")
            assert exactly(client, 5) == b"hello"


@pytest.mark.parametrize("model", ["thread", "pool"])
def test_a_bound_that_nobody_asked_for_is_fitted_to_the_hard_limit(
    telling: str, hard: int, model: str
) -> None:
    options = ("--model", model, "--log-format", "json")
    with served(telling, *options, wrapper=limited(soft=100, hard=150)) as server:
        with server.connect() as client:
            assert exactly(client, 100) == b"(150, 150)"
        assert server.stop() == 0
    assert (
        "no more than 86 connections at once: the hard limit of this process is 150; raise it"
        in server.log
    )


@pytest.mark.parametrize("model", ["loop", "iterative", "process"])
def test_a_small_hard_limit_will_do_without_a_bound(telling: str, model: str) -> None:
    with (
        served(telling, "--model", model, wrapper=limited(soft=40, hard=50)) as server,
        server.connect() as client,
    ):
        soft = 50 if model == "loop" else 40
        assert exactly(client, 100) == repr((soft, 50)).encode()


def test_a_hard_limit_without_room_for_one_connection_is_refused() -> None:
    refused = neverblock("serve", ECHO, "--model", "thread", wrapper=limited(soft=40, hard=50))
    assert refused.returncode == 2
    assert "the hard limit of this process is 50; raise it" in refused.stderr
