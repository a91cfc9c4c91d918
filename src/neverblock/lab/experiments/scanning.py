"""Ten clients speak among more and more that do not: what a wake-up costs."""

from collections.abc import Iterator, Sequence

from neverblock import multiplexers
from neverblock.lab import programs, ways, words
from neverblock.lab.clients import room
from neverblock.lab.experiment import (
    Bench,
    Case,
    Chart,
    Experiment,
    Fact,
    Found,
    Metric,
    Settings,
    Verdict,
    derived,
    refuse,
)

ACTIVE = 10
#: Select bears the fifth with the descriptors that a process has anyway.
CROWDS = (0, 10, 100, 300, 900, 3_000, 10_000)
QUICK = (0, 100, 900, 10_000)
SECONDS = 0.8


def cases(settings: Settings) -> list[Case]:
    crowds = QUICK if settings.quick else CROWDS
    backends = settings.backends or ways.backends()
    return [
        {"backend": backend, "active": ACTIVE, "idle": idle}
        for backend in backends
        for idle in crowds
    ]


def measure(case: Case, bench: Bench) -> Iterator[Metric]:
    backend, idle = str(case["backend"]), int(case["idle"] or 0)
    if (reason := multiplexers.available()[backend]) is not None:
        refuse(f"{backend}: {reason}")
    refuse(ways.limit_of(backend, idle + ACTIVE))
    refuse(room(idle + ACTIVE))
    request = {
        **case,
        "seconds": SECONDS / 2 if bench.settings.quick else SECONDS,
        "client_cores": sorted(bench.client_cores),
    }
    found = programs.run("neverblock.lab.wakeups", request, cores=bench.server_cores, timeout=60.0)
    waits = found["waits"]
    yield Metric("time per wake-up", "s", found["cost"])
    yield Metric("descriptors handed in", "1/wake-up", found["descriptors_handed_in"] / waits)
    yield Metric("descriptors looked at", "1/wake-up", found["descriptors_looked_at"] / waits)
    yield Metric("events", "1/wake-up", found["events_out"] / waits)


def verdicts(found: Found) -> Sequence[Verdict]:
    growths, sure = {}, {}
    facts: dict[str, Fact] = {}
    sentences = []
    for backend in multiplexers.REGISTRY:
        measured = [case["idle"] for case, _ in found.all("time per wake-up", backend=backend)]
        crowds = sorted(idle for idle in measured if isinstance(idle, int))
        if len(crowds) < 2:
            continue
        alone = found.fact("time per wake-up", backend=backend, idle=crowds[0])
        crowded = found.fact("time per wake-up", backend=backend, idle=crowds[-1])
        growth = derived(crowded, crowded.value / alone.value, "1", alone)
        growths[backend] = growth.value
        sure[backend] = least(found, backend, crowds[0], crowds[-1])
        facts[f"{backend}, {crowds[0]:,} idle"] = alone
        facts[f"{backend}, {crowds[-1]:,} idle"] = crowded
        facts[f"{backend}, growth"] = growth
        sentences.append(
            f"{backend}: {words.shown(alone.value, 's')} {beside(crowds[0])}, "
            f"{words.shown(crowded.value, 's')} beside {crowds[-1]:,} of them, "
            f"{grown(growth.value, sure[backend])}."
        )
    if not growths:
        return []
    return [
        Verdict(
            experiment=found.experiment,
            title=title(sure),
            text=" ".join([*sentences, *ends(found)]),
            facts=facts,
        )
    ]


def beside(idle: int) -> str:
    return f"beside {words.counted(idle, 'idle client')}" if idle else "without idle clients"


def least(found: Found, backend: str, few: int, many: int) -> float:
    """How much more even the best round beside many takes than the worst beside few."""
    alone = found.one("time per wake-up", backend=backend, idle=few)
    crowded = found.one("time per wake-up", backend=backend, idle=many)
    return crowded.low / alone.high if crowded and alone else 0.0


def grown(growth: float, sure: float) -> str:
    if growth <= 1.5:
        return "about as much" if growth >= 0.67 else "no more"
    much = f"{words.times(growth)} as much"
    return much if sure >= 1.5 else f"{much}, which its rounds do not bear out"


def title(growths: dict[str, float]) -> str:
    """Who pays for the silent, and who does not: twice as much is the line between them."""
    paying = [backend for backend, growth in growths.items() if growth >= 2]
    free = [backend for backend in growths if backend not in paying]
    if paying and free:
        verb = "pays" if len(paying) == 1 else "pay"
        other = "does" if len(free) == 1 else "do"
        silent = f"{words.listed(free)} {other} not"
        return f"{words.listed(paying)} {verb} for every idle client, {silent}"
    return "Everybody pays for idle clients" if paying else "Nobody pays for idle clients here"


def ends(found: Found) -> list[str]:
    """Where a backend ends, for those that were measured."""
    sentences = []
    for backend in multiplexers.REGISTRY:
        if found.all("time per wake-up", backend=backend):
            with multiplexers.create(backend) as multiplexer:
                if multiplexer.limit >= 0:
                    sentences.append(f"{backend} ends at {multiplexer.limit:,} descriptors.")
    return sentences


EXPERIMENT = Experiment(
    name="scanning",
    title="What a crowd of idle clients costs",
    question="Is select slow with many descriptors, and where does it end?",
    method=(
        "Ten TCP clients speak, again and again, among more and more that are connected and "
        "silent. One thread waits for them. The processor time of one wait is counted, without the "
        "work after it: the median of short portions."
    ),
    charts=(
        Chart(
            metric="time per wake-up",
            unit="s",
            title="Processor time of one wake-up",
            x="idle",
            series=("backend",),
            log_x=True,
            log_y=True,
        ),
        Chart(
            metric="descriptors looked at",
            unit="1/wake-up",
            title="Descriptors looked at in one wake-up",
            x="idle",
            series=("backend",),
            log_x=True,
            log_y=True,
        ),
    ),
    cases=cases,
    measure=measure,
    verdicts=verdicts,
    seconds=lambda case, settings: 1.3 + int(case["idle"] or 0) / 10_000,
    table=("time per wake-up", "descriptors handed in", "descriptors looked at"),
)
