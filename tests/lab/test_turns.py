"""Servers that are loaded in turn: each by itself, whatever happens to another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from neverblock.errors import LabError
from neverblock.lab import turns
from neverblock.lab.clients import crowd
from neverblock.lab.experiment import Bench, Case, Unmeasurable, bench
from neverblock.lab.server import Server, serving
from neverblock.lab.settings import ECHO, Settings

PLACE = bench(Settings(duration=1.0, warmup=0.1))

HANDLERS = """
import asyncio, os
async def dies(stream):
    for _ in range(500):
        await stream.send(await stream.receive_exactly(1024))
    os.abort()
left = 10
async def deafens(stream):
    global left
    while left:
        left -= 1
        await stream.send(await stream.receive_exactly(1024))
    await asyncio.Event().wait()
came = []
async def forgets_the_first(stream):
    came.append(stream)
    while len(came) > 1:
        await stream.send(await stream.receive_exactly(1024))
    await asyncio.Event().wait()
"""


def server(handler: str = ECHO, **options: Any) -> AbstractContextManager[Server]:
    return serving(handler, options, cores=PLACE.server_cores)


def asking(
    server: Server, connections: int, waiting: int = 0, timeout: float = 2.0
) -> AbstractContextManager[turns.Clients]:
    return turns.clients(
        f"tcp://127.0.0.1:{server.port}",
        cores=PLACE.client_cores,
        connections=connections,
        size=1024,
        timeout=timeout,
        waiting=waiting,
    )


def told(server: Server) -> Mapping[str, float]:
    return server.last_told()[-1][1]


def test_clients_ask_in_their_turn_and_not_before_or_after() -> None:
    with server() as one, asking(one, 10) as clients:
        before = told(one)
        turn = clients.turn(0.1, 0.05)
        after = told(one)
        assert 0 < turn.answered <= turn.total
        assert after["events_out"] - before["events_out"] >= turn.total
        # Asking for statistics is an event of its own, and nothing else happens.
        again = told(one)
        assert again["events_out"] - after["events_out"] <= 2
        assert clients.turn(0.1).total > 0
        found = clients.found()
    assert found["errors"] == {}
    assert 0 < found["latency"]["p50"] <= found["latency"]["p99"]


def test_what_comes_before_the_measured_time_is_not_in_the_latency() -> None:
    with server() as one, asking(one, 10) as clients:
        turn = clients.turn(0.0, 0.1)
        assert (turn.answered, turn.total > 0) == (0, True)
        assert clients.found()["latency"]["max"] is None


def test_clients_do_not_depend_on_the_environment_of_whoever_measures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEVERBLOCK_BACKEND", "none")
    with server() as one:
        with asking(one, 2) as clients:
            assert clients.turn(0.1).total > 0
        with crowd(one.port, 2, cores=PLACE.client_cores, message=b"x" * 1024) as held:
            assert held.answered == 2


def test_whom_a_server_leaves_waiting_holds_no_turn_up() -> None:
    with server(model="iterative") as one, asking(one, 3, waiting=2) as clients:
        assert all(clients.turn(0.1).answered > 0 for _ in range(3))
        assert sum(clients.found()["errors"].values()) == 2


def test_what_is_not_answered_in_its_turn_is_an_error_and_the_next_begins_anew(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text(HANDLERS)
    with (
        server(f"{tmp_path}/app.py:forgets_the_first", drain_timeout=0.5) as one,
        asking(one, 1, timeout=1.0) as clients,
    ):
        assert clients.turn(0.1).total == 0
        # Another connection is opened a little later.
        assert any(clients.turn(0.2).total for _ in range(50))
        assert clients.found()["errors"] == {"timeout": 1}


def test_what_happens_to_one_is_its_own_outcome(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HANDLERS)
    app = f"{tmp_path}/app.py"
    handlers = {"good": ECHO, "bad": f"{app}:dies", "deaf": f"{app}:deafens", "other": ECHO}

    def enter(case: Case, _: Bench, stack: ExitStack) -> tuple[Server, turns.Clients, bool]:
        if case["name"] == "impossible":
            raise Unmeasurable("not here")
        one = stack.enter_context(server(handlers[str(case["name"])], drain_timeout=0.5))
        return one, stack.enter_context(asking(one, 2)), True

    cases = [{"name": name, "connections": 2} for name in (*handlers, "impossible")]
    outcomes = {str(case["name"]): outcome for case, outcome in turns.measure(cases, PLACE, enter)}
    for name in ("good", "other"):
        outcome = outcomes[name]
        assert isinstance(outcome, list)
        values = {metric.name: metric.value for metric in outcome}
        assert values["throughput"] > 0
        assert values["errors"] == 0
        assert values["cpu"] > 0
        assert values["wake-ups"] > 0
    assert isinstance(outcomes["bad"], LabError)
    assert "ended by SIGABRT" in str(outcomes["bad"])
    assert isinstance(outcomes["deaf"], LabError)
    assert re.fullmatch(r"no request was answered: \d × timeout", str(outcomes["deaf"]))
    assert str(outcomes["impossible"]) == "not here"


def test_clients_that_end_are_told_of() -> None:
    with server() as one, asking(one, 2) as clients:
        clients.process.kill()
        clients.process.wait()
        with pytest.raises(LabError, match="the clients ended"):
            clients.turn(0.1)


@pytest.mark.parametrize(
    ("answer", "duration", "length"),
    [(0.001, 2.0, 0.25), (0.02, 2.0, 2 / 3), (0.5, 2.0, 2.0), (1e-6, 0.5, 0.25), (0.0, 0.1, 0.1)],
)
def test_a_turn_has_room_for_many_answers(answer: float, duration: float, length: float) -> None:
    assert turns.lasting(answer, duration) == pytest.approx(length)


def test_those_whom_a_server_leaves_waiting_make_no_turn_longer() -> None:
    def enter(_: Case, __: Bench, stack: ExitStack) -> tuple[Server, turns.Clients, bool]:
        one = stack.enter_context(server(model="iterative", backlog=4096))
        return one, stack.enter_context(asking(one, 1000, waiting=999)), False

    with turns.Entrant({"connections": 1000}, PLACE, enter) as entrant:
        entrant.take_turn()
        assert entrant.outcome is None
        assert not entrant.done


def test_servers_are_gone_when_the_measurement_is_broken_off() -> None:
    servers: list[Server] = []

    def enter(_: Case, __: Bench, stack: ExitStack) -> tuple[Server, turns.Clients, bool]:
        if servers:
            raise KeyboardInterrupt
        servers.append(stack.enter_context(server()))
        return servers[0], stack.enter_context(asking(servers[0], 1)), False

    def measured() -> Iterator[Any]:
        return turns.measure([{"connections": 1}, {"connections": 1}], PLACE, enter)

    with pytest.raises(KeyboardInterrupt):
        list(measured())
    assert servers[0].process.poll() is not None
