"""Fifteen thousand clients in one thread: are they all served, and what does each cost?"""

from collections.abc import Iterator, Sequence
from statistics import median

from neverblock import multiplexers
from neverblock.lab import words
from neverblock.lab.clients import crowd, room
from neverblock.lab.experiment import (
    Bench,
    Case,
    Chart,
    Experiment,
    Found,
    LabError,
    Metric,
    Settings,
    Verdict,
    derived,
    refuse,
)
from neverblock.lab.server import serving
from neverblock.lab.settings import ECHO
from neverblock.lab.ways import Way, limit_of

CROWDS = (100, 1_000, 5_000, 10_000, 15_000)
QUICK = (100, 2_000)
#: Clients that come one after another to a server that has its crowd.
PROBES = 25
#: Clients that come and go before memory is read.
FIRST = 10
ONE_MORE = "one more answered within"


def cases(settings: Settings) -> list[Case]:
    backends = settings.backends or multiplexers.default()[:1]
    crowds = QUICK if settings.quick else CROWDS
    return [{"backend": backend, "connections": count} for backend in backends for count in crowds]


def measure(case: Case, bench: Bench) -> Iterator[Metric]:
    backend, count = str(case["backend"]), int(case["connections"] or 0)
    way = Way("loop", backend=backend)
    refuse(way.obstacle())
    refuse(limit_of(backend, count + 1))
    refuse(room(count + 1))
    options = way.options(count)
    with serving(ECHO, options, cores=bench.server_cores, backend=backend) as server:
        # What the first clients alone cost is not theirs.
        with crowd(server.port, FIRST, cores=bench.client_cores):
            pass
        server.tree.wait_rest()
        empty = server.tree.memory()
        with crowd(server.port, count, cores=bench.client_cores) as clients:
            if clients.answered < count:
                raise LabError(f"{clients.answered:,} of {count:,} answered: {clients.failure}")
            server.tree.wait_rest()
            full, counts = server.tree.memory(), server.tree.counts()
            probes = [clients.probe() for _ in range(PROBES)]
            yield Metric("clients answered", "1", clients.answered)
            yield Metric("threads", "1", counts.threads)
            yield Metric("everybody answered within", "s", clients.seconds)
            yield Metric(ONE_MORE, "s", median(probes))
            yield Metric("rss per connection", "B/connection", (full.rss - empty.rss) / count)
            yield Metric("rss", "B", full.rss)


def verdicts(found: Found) -> Sequence[Verdict]:
    held = found.all("clients answered")
    if not held:
        return []
    count = max(int(case["connections"] or 0) for case, _ in held)
    late_by = {
        str(case["backend"]): each.median for case, each in found.all(ONE_MORE, connections=count)
    }
    backend = min(late_by, key=lambda name: late_by[name])
    of_it: Case = {"backend": backend, "connections": count}
    threads = found.fact("threads", **of_it)
    memory = found.fact("rss per connection", **of_it)
    whole = found.fact("rss", **of_it)
    late = found.fact(ONE_MORE, **of_it)
    facts = {
        "clients held and answered": found.fact("clients answered", **of_it),
        "threads of the server": threads,
        "memory of a connection": memory,
        "memory of the server": whole,
        "answer to one client more": late,
    }
    text = (
        f"A loop on {backend} answered {count:,} clients that stayed connected, in a process of "
        f"{words.shown(whole.value, 'B')} with {words.counted(threads.value, 'thread')}: "
        f"{words.shown(memory.value, 'B')} for each."
    )
    fewest = min(int(each["connections"] or 0) for each, _ in found.all("rss", backend=backend))
    if fewest < count:
        early = found.fact(ONE_MORE, backend=backend, connections=fewest)
        growth = derived(late, late.value / early.value, "1", early)
        facts[f"the same beside {fewest:,}"] = early
        text += (
            f" Beside them one client more had its answer within {words.shown(late.value, 's')}; "
            f"beside {fewest:,} it was {words.shown(early.value, 's')}, "
            + (
                "about as long."
                if 0.67 <= growth.value <= 1.5
                else f"{words.times(1 / growth.value)} as long."
                if growth.value < 1
                else f"so {words.times(growth.value)} as long in the crowd."
            )
        )
    for other in sorted(late_by.keys() - {backend}):
        slower = found.fact(ONE_MORE, backend=other, connections=count)
        facts[f"answer to one client more, {other}"] = slower
        text += f" On {other} it took {words.shown(slower.value, 's')} in that crowd."
    alone = "one thread" if threads.value == 1 else words.counted(threads.value, "thread")
    return [
        Verdict(
            experiment=found.experiment,
            title=f"{alone.capitalize()} held {count:,} clients",
            text=text,
            facts=facts,
        )
    ]


EXPERIMENT = Experiment(
    name="c10k",
    title="C10k and beyond",
    question="How many clients can one thread hold, and does the crowd slow down who comes next?",
    method=(
        "Clients connect to an echo server, get one answer each, and stay. When all are there and "
        "the server rests, its memory is read; then 25 clients more come one after the other, from "
        "another address: to find a free port where half of them are taken is slow, and the "
        "clients' part. What is shown of them begins when they begin to connect."
    ),
    charts=(
        Chart(
            metric=ONE_MORE,
            unit="s",
            title="From connecting to the first answer, beside so many",
            x="connections",
            series=("backend",),
            log_x=True,
            log_y=True,
        ),
        Chart(
            metric="rss per connection",
            unit="B/connection",
            title="Memory of a connection",
            x="connections",
            series=("backend",),
            log_x=True,
        ),
    ),
    cases=cases,
    measure=measure,
    verdicts=verdicts,
    seconds=lambda case, settings: 2.0 + int(case["connections"] or 0) / 4_000,
    table=("clients answered", "rss per connection", ONE_MORE),
)
