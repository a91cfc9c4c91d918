"""Every way to serve, under more and more clients: the comparison itself."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TypeAlias

from neverblock import multiplexers
from neverblock.lab import tree, turns, ways, words
from neverblock.lab.clients import Crowd, crowd, room
from neverblock.lab.experiment import (
    Bench,
    Case,
    Chart,
    Experiment,
    Fact,
    Found,
    LabError,
    Metric,
    Settings,
    Together,
    Verdict,
    derived,
    leaders,
    outdone,
    refuse,
)
from neverblock.lab.results import Scalar, Summary
from neverblock.lab.server import Server, serving
from neverblock.lab.settings import PROTOCOLS
from neverblock.lab.tracing import system_calls

#: Clients that come and go before memory is read: what the first ones alone cost is not theirs.
FIRST = 4
#: Connections from which on what one costs in memory stands out.
TELLING = {"process": 10}
TELLING_ELSE = 50
#: Clients of which it is known how many more the memory has room for, and the share of it to take.
SAMPLE = 20
SHARE = 0.6
#: Seconds in which an answer must come, and where some clients never get one.
PATIENCE = 10.0
IMPATIENCE = 2.0
#: Seconds of the load in which system calls are counted.
COUNTED = 0.3


#: Cases with what was measured, in order of that.
Ranked: TypeAlias = list[tuple[dict[str, Scalar], Summary]]


def cases(settings: Settings) -> list[Case]:
    backends = settings.backends or (multiplexers.default()[0],)
    chosen = ways.every(settings.models or ways.MODELS, backends, settings.peers)
    return [
        {**way.case, "connections": connections}
        for way in chosen
        for connections in settings.connections
    ]


def measure(case: Case, bench: Bench) -> Iterator[Metric]:
    """By itself: its memory, and the system calls of an answer."""
    way, connections = ways.of(case), int(case["connections"] or 0)
    possible(way, connections)
    with served(way, connections, bench) as server:
        yield from memory(server, way, connections, bench)
        if bench.settings.quick or not bears(case):
            return
        with asked(server, way, connections, bench) as clients:
            clients.turn(COUNTED)
            calls = system_calls(server, lambda: clients.turn(COUNTED).total)
        if calls is not None:
            yield Metric("system calls", "1/request", calls)


def enter(case: Case, bench: Bench, stack: ExitStack) -> tuple[Server, turns.Clients, bool]:
    """Side by side with other ways: what it answers, and what an answer costs it."""
    way, connections = ways.of(case), int(case["connections"] or 0)
    possible(way, connections)
    server = stack.enter_context(served(way, connections, bench))
    come_and_go(server, way, bench)
    clients = stack.enter_context(asked(server, way, connections, bench))
    return server, clients, way.counts


def come_and_go(server: Server, way: ways.Way, bench: Bench) -> None:
    """No server in use has never seen a client leave. It matters: recv(2) into a large buffer that
    is shrunk, as asyncio's does, maps and unmaps memory each time until malloc(3) has seen a large
    one freed, and an echo costs four times as much until then."""
    with come(server, min(FIRST, way.at_once or FIRST), bench):
        pass
    server.tree.wait_processes(server.own)


def come(server: Server, count: int, bench: Bench) -> AbstractContextManager[Crowd]:
    """So many clients, which say what the protocol has for a start."""
    message = PROTOCOLS[bench.settings.protocol][1]
    return crowd(
        server.port,
        count,
        cores=bench.client_cores,
        message=message or b"x" * bench.settings.size,
        answer_size=1 if message else None,
    )


def possible(way: ways.Way, connections: int) -> None:
    """Raises Unmeasurable where it is not."""
    refuse(way.obstacle())
    refuse(way.limit(connections))
    refuse(room(connections))


def served(way: ways.Way, connections: int, bench: Bench) -> AbstractContextManager[Server]:
    return serving(
        bench.settings.handler,
        way.options(connections),
        cores=bench.server_cores,
        backend=way.backend,
        peer=way.peer,
    )


def asked(
    server: Server, way: ways.Way, connections: int, bench: Bench
) -> AbstractContextManager[turns.Clients]:
    settings = bench.settings
    scheme = PROTOCOLS[settings.protocol][0]
    path = "/" if settings.protocol == "http" else ""
    waiting = 0 if way.at_once is None else max(0, connections - way.at_once)
    return turns.clients(
        f"{scheme}://127.0.0.1:{server.port}{path}",
        cores=bench.client_cores,
        connections=connections,
        size=settings.size,
        timeout=IMPATIENCE if waiting else PATIENCE,
        waiting=waiting,
    )


def memory(server: Server, way: ways.Way, connections: int, bench: Bench) -> Iterator[Metric]:
    """At rest, and for each connection that had an answer and is held."""

    def held(count: int) -> tree.Memory:
        with come(server, count, bench) as clients:
            if clients.answered < count:
                raise LabError(
                    f"{clients.answered:,} of {count:,} clients were answered: {clients.failure}"
                )
            server.tree.wait_rest()
            found = server.tree.memory()
        server.tree.wait_processes(server.own)
        return found

    at_once = min(connections, way.at_once or connections)
    first = min(FIRST, at_once)
    few = held(first)
    server.tree.wait_rest()
    rest = server.tree.memory()
    yield Metric("rss at rest", "B", rest.rss)
    yield Metric("pss at rest", "B", rest.pss)
    if way.model in ("process", "thread") and connections > 10 * SAMPLE:
        some = held(SAMPLE)
        each = (some.pss + some.tables - few.pss - few.tables) / (SAMPLE - first)
        refuse(no_room(each, connections, way.model))
    if at_once >= TELLING.get(way.model, TELLING_ELSE):
        full = held(at_once)
        for kind in ("rss", "pss", "anonymous", "tables"):
            # Beside as many other processes: what is shared with those counts less in PSS (see
            # docs/reference/results.md). Memory that was there and is used again is nobody's, so it
            # may be less than nothing.
            grown = max(0, getattr(full, kind) - getattr(few, kind))
            label = "page tables" if kind == "tables" else kind
            yield Metric(f"{label} per connection", "B/connection", grown / (at_once - first))


def no_room(each: float, count: int, what: str) -> str | None:
    """Why memory has no room for so many of these; None: it has."""
    limit = tree.available() * SHARE
    if each * count <= limit:
        return None
    needed, allowed, one = (words.shown(size, "B") for size in (each * count, limit, each))
    plural = {"process": "processes", "thread": "threads"}[what]
    return f"{count:,} {plural} need {needed} ({one} each), and {allowed} may be taken here"


def name(case: Case) -> str:
    return ways.of(case).name


def verdicts(found: Found) -> Sequence[Verdict]:
    return [
        verdict
        for verdict in (
            most_answers(found),
            dearest(found, "pss per connection", "Memory of a connection"),
            dearest(found, "cpu", "Processor time for an answer"),
        )
        if verdict is not None
    ]


def most_answers(found: Found) -> Verdict | None:
    """Which ways answer most, at each number of clients."""
    sentences, facts, winners = [], dict[str, Fact](), []
    for connections in counts(found, "throughput"):
        ranked = ranking(found, "throughput", connections)[::-1]
        if len(ranked) < 2 or not ranked[0][1].median:
            continue
        (most, fast), (least, slow) = ranked[0], outdone(ranked)
        best = leaders(ranked)
        clients = words.counted(connections, "client")
        for case in (most, least):
            facts[f"{name(case)}, {clients}"] = found.fact("throughput", **case)
        if len(best) == len(ranked):
            low, high = (words.shown(each.median, "1/s") for each in (slow, fast))
            between = f"between {low} and {high}" if low != high else f"with {high}"
            sentences.append(f"{clients}: all alike, {between}.")
            continue
        winners.append((clients, in_short(best, ranked)))
        ratio = f"{words.times(fast.median / slow.median)} as much as " if slow.median else ""
        sentences.append(
            f"{clients}: {ways.listed(best)} with {'up to ' if len(best) > 1 else ''}"
            f"{words.shown(fast.median, '1/s')}, {ratio}{name(least)} with "
            f"{words.shown(slow.median, '1/s')}."
        )
    if not sentences:
        return None
    (few, first), (many, last) = (winners or [("", "")])[0], (winners or [("", "")])[-1]
    if not winners:
        title = "No way to serve answers more than another"
    elif len(winners) == 1:
        title = f"With {many} most answers come from {last}"
    elif first == last:
        title = f"Most answers come from {last}, with {few} and with {many}"
    else:
        title = f"Most answers come from {first} with {few}, from {last} with {many}"
    return Verdict(
        experiment=found.experiment,
        title=title,
        text="Most answers a second, and what cannot be told from it. " + " ".join(sentences),
        facts=facts,
    )


def in_short(best: Sequence[Case], ranked: Ranked) -> str:
    """For a title: models where there are several, else all that is known of the ways."""
    if len({case["model"] for case, _ in ranked}) == 1:
        return ways.listed(best)
    return ways.listed({"model": case["model"]} for case in best)


def dearest(found: Found, metric: str, what: str) -> Verdict | None:
    """Which ways cost least and most, at the largest number of clients that most can bear."""
    told = [
        # Ways that serve so many and no more do not keep the number small.
        (sum(ways.of(case).at_once is None for case, _ in ranked), connections, ranked)
        for connections in counts(found, metric)
        if len(ranked := [each for each in ranking(found, metric, connections) if bears(*each)]) > 1
    ]
    if not told:
        return None
    _, connections, ranked = max(told, key=lambda each: each[:2])
    (cheap, _), (dear, _) = ranked[0], outdone(ranked)
    best = leaders(ranked)
    clients = words.counted(connections, "client")
    facts = {f"{name(case)}, {clients}": found.fact(metric, **case) for case, _ in ranked}
    low, high = (facts[f"{name(case)}, {clients}"] for case in (cheap, dear))
    ratio = derived(high, high.value / low.value, "1", low)
    unit = low.unit.partition("/")[0]
    others = [case for case, _ in ranking(found, metric, connections) if not bears(case)]
    left_out = f" {ways.listed(others)} cannot serve all of them at once." if others else ""
    return Verdict(
        experiment=found.experiment,
        title=f"{what}: about the same under all, with {clients}"
        if len(best) == len(ranked)
        else f"{what}: least under {ways.listed(best)}, {words.times(ratio.value)} as much under "
        f"{name(dear)}",
        text=f"With {clients}: "
        + ", ".join(f"{name(case)} {words.shown(each.median, unit)}" for case, each in ranked)
        + f".{left_out}",
        facts={**facts, f"{name(dear)} in terms of {name(cheap)}": ratio},
    )


def bears(case: Case, measured: Summary | None = None) -> bool:
    """Whether a way serves all of its clients at once, and something was seen of it."""
    at_once = ways.of(case).at_once
    every = at_once is None or int(case["connections"] or 0) <= at_once
    return every and (measured is None or measured.median > 0)


def counts(found: Found, metric: str) -> list[int]:
    """Numbers of clients that were measured, rising."""
    given = {case["connections"] for case, _ in found.all(metric)}
    return sorted(count for count in given if isinstance(count, int))


def ranking(found: Found, metric: str, connections: int) -> Ranked:
    """Ways by a metric, the lowest first."""
    return sorted(
        (
            (case, summary)
            for case, summary in found.all(metric, connections=connections)
            if case["connections"] == connections
        ),
        key=lambda each: each[1].median,
    )


SERIES = ("model", "backend", "loop")


def chart(metric: str, unit: str, title: str) -> Chart:
    return Chart(
        metric=metric,
        unit=unit,
        title=title,
        x="connections",
        series=SERIES,
        log_x=True,
        log_y=True,
    )


EXPERIMENT = Experiment(
    name="models",
    title="Every way to serve, side by side",
    question="What does each way to serve cost, and how does that change as clients come?",
    method=(
        "One handler under every model. Each client sends a message, waits for the answer, and "
        "sends again. The server has one core, its clients another. With so many clients all ways "
        "are measured side by side: their servers live at the same time and are loaded in turn, "
        "for a quarter of a second as a rule, again and again, so that all of them meet the same "
        "moods of the machine. Whom a server leaves waiting (the iterative one all but one, the "
        "pool all but 64), or does not answer within ten seconds, has no latency and is an error. "
        "Memory and system calls are counted apart from that, in three rounds; memory while as "
        "many clients hold a connection and are silent."
    ),
    charts=(
        chart("throughput", "1/s", "Answers a second"),
        chart("latency p99", "s", "99 of 100 answers come within"),
        chart("cpu", "s/request", "Processor time of the server for an answer"),
        chart("pss per connection", "B/connection", "Memory of a connection"),
    ),
    cases=cases,
    measure=measure,
    verdicts=verdicts,
    seconds=lambda case, settings: (
        (2.0 if settings.quick else 3.5) + int(case["connections"] or 0) / 2_000
    ),
    rounds=3,
    together=Together(
        alike=lambda case: case["connections"],
        measure=partial(turns.measure, enter=enter),
        seconds=lambda case, settings: (
            1.2 * settings.duration + settings.warmup + 1.5 + int(case["connections"] or 0) / 2_000
        ),
    ),
    table=(
        "throughput",
        "latency p50",
        "latency p99",
        "cpu",
        "pss per connection",
        "voluntary switches",
        "system calls",
        "errors",
    ),
    uses_handler=True,
)
