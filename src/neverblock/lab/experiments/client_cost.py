"""What one client more costs: memory and time, for a process, a thread and the loop."""

from collections.abc import Iterator, Sequence
from statistics import median

from neverblock.lab import ways, words
from neverblock.lab.clients import crowd, room
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
    Verdict,
    derived,
    refuse,
)
from neverblock.lab.experiments.models import no_room
from neverblock.lab.server import serving
from neverblock.lab.settings import ECHO

MODELS = ("loop", "thread", "process")
CROWDS = (100, 500, 1_000)
QUICK = (100, 300)
#: Clients that come and go before anything is read.
FIRST = 10
#: Bytes that one needs at least.
LEAST = {"thread": 20_000.0, "process": 2_000_000.0}
#: Clients that come one after another, for the time until one is answered.
PROBES = 50


def cases(settings: Settings) -> list[Case]:
    crowds = QUICK if settings.quick else CROWDS
    return [{"model": model, "clients": count} for model in MODELS for count in crowds]


def measure(case: Case, bench: Bench) -> Iterator[Metric]:
    way, count = ways.of(case), int(case["clients"] or 0)
    refuse(room(count))
    cores, message = bench.client_cores, b"x" * bench.settings.size
    with serving(ECHO, way.options(count), cores=bench.server_cores) as server:
        with crowd(server.port, FIRST, cores=cores, message=message) as some:
            server.tree.wait_rest()
            few = server.tree.memory()
            if some.answered < FIRST:
                raise LabError(f"{some.answered} of {FIRST} answered: {some.failure}")
        server.tree.wait_processes(server.own)
        server.tree.wait_rest()
        idle = server.tree.cpu_of_all()
        if way.model != "loop":
            refuse(no_room(LEAST[way.model], count, way.model))
        with crowd(server.port, count, cores=cores, message=message) as clients:
            if clients.answered < count:
                raise LabError(f"{clients.answered:,} of {count:,} answered: {clients.failure}")
            server.tree.wait_rest()
            full = server.tree.memory()
            counts = server.tree.counts()
            yield Metric("time to take all", "s", clients.seconds)
            yield Metric(
                "time to first answer", "s", median(clients.probe() for _ in range(PROBES))
            )
        server.tree.wait_processes(server.own)
        server.tree.wait_rest()
        spent = server.tree.cpu_of_all() - idle
        # Beside as many other processes: what is shared with those counts less in PSS (see
        # docs/reference/results.md).
        for name, kind in (
            ("memory", "pss"),
            ("anonymous memory", "anonymous"),
            ("page tables", "tables"),
        ):
            grown = max(0, getattr(full, kind) - getattr(few, kind))
            yield Metric(name, "B/client", grown / (count - FIRST))
        yield Metric("cpu", "s/client", spent / (count + PROBES))
        yield Metric("processes", "1", counts.processes)
        yield Metric("threads", "1", counts.threads)


def verdicts(found: Found) -> Sequence[Verdict]:
    counts = {int(case["clients"] or 0) for case, _ in found.all("memory")}
    if not counts:
        return []
    # The most that as many as possible could bear.
    count = max(counts, key=lambda count: (len(found.all("memory", clients=count)), count))
    facts: dict[str, Fact] = {}
    sentences = []
    loop = found.one("memory", model="loop", clients=count)
    ratios: dict[str, Fact] = {}
    for model in MODELS:
        if not found.all("memory", model=model, clients=count):
            continue
        memory = found.fact("memory", model=model, clients=count)
        first = found.fact("time to first answer", model=model, clients=count)
        facts |= {f"{model}, memory": memory, f"{model}, time to first answer": first}
        sentences.append(
            f"{model}: {words.shown(memory.value, 'B')} for each of "
            f"{words.counted(count, 'client')}, and {words.shown(first.value, 's')} until one more "
            f"is answered."
        )
        if model != "loop" and loop is not None and loop.median > 0:
            base = found.fact("memory", model="loop", clients=count)
            ratios[model] = derived(memory, memory.value / base.value, "1", base)
            facts[f"{model} in terms of loop"] = ratios[model]
    told = [f"a {model} takes {words.times(ratio.value)}" for model, ratio in ratios.items()]
    title = f"For a client, {words.listed(told)} the memory that a loop does" if told else ""
    return [
        Verdict(
            experiment=found.experiment,
            title=title or "What a client costs",
            text=" ".join(sentences),
            facts=facts,
        )
    ]


def chart(metric: str, unit: str, title: str) -> Chart:
    return Chart(metric=metric, unit=unit, title=title, x="clients", series=("model",), log_y=True)


EXPERIMENT = Experiment(
    name="client-cost",
    title="What a client costs",
    question="What do a process, a thread and a loop need for one client more?",
    method=(
        "An echo server is left alone, then holds clients that had one answer each and are silent. "
        "The difference in memory (PSS, what is shared counted once) is theirs. Then clients come "
        "one after another, and it is timed until each is answered."
    ),
    charts=(
        chart("memory", "B/client", "Memory of a client"),
        chart("time to first answer", "s", "From connecting to the first answer"),
        chart("cpu", "s/client", "Processor time to take, answer and let go a client"),
    ),
    cases=cases,
    measure=measure,
    verdicts=verdicts,
    seconds=lambda case, settings: (
        3.0 + int(case["clients"] or 0) * (0.01 if case["model"] == "process" else 0.001)
    ),
    table=("memory", "page tables", "cpu", "time to first answer", "time to take all"),
)
