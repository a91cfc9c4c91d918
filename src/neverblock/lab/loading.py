"""A server under load: what it answered, and what each answer cost it, as metrics."""

from collections.abc import Iterator, Mapping
from typing import Final

from neverblock.lab.experiment import Metric
from neverblock.lab.sampling import Sampler

#: What a server uses more and more of.
GROWING: Final = ("cpu", "user", "system", "voluntary", "involuntary")
PERCENTILES: Final = ("p50", "p99", "p99.9")
#: Share of the exact processor time that clock ticks must account for, or they tell too little.
TICKED: Final = 0.8


def unanswered(errors: Mapping[str, int]) -> str:
    """What to say where no request was answered."""
    told = ", ".join(f"{count} × {kind}" for kind, count in errors.items())
    return f"no request was answered: {told or 'none was sent'}"


def answered(
    throughput: float, latency: Mapping[str, float | None], errors: Mapping[str, int], busy: float
) -> Iterator[Metric]:
    """What the clients saw, and the share of their core that they used."""
    yield Metric("throughput", "1/s", throughput)
    for name in PERCENTILES:
        value = latency[name]
        if value is not None:
            yield Metric(f"latency {name}", "s", value)
    yield Metric("errors", "1", sum(errors.values()))
    yield Metric("client busy", "1", busy)


def used(requests: int, sampler: Sampler) -> Iterator[Metric]:
    """What so many requests cost the server."""
    grown = {name: sampler.used(name) for name in GROWING}
    cpu, user, system = (grown[name] or 0.0 for name in ("cpu", "user", "system"))
    if cpu:
        yield Metric("cpu", "s/request", cpu / requests)
    if user + system >= TICKED * cpu > 0:
        yield Metric("cpu user", "s/request", cpu * user / (user + system) / requests)
        yield Metric("cpu system", "s/request", cpu * system / (user + system) / requests)
    for name in ("voluntary", "involuntary"):
        switches = grown[name]
        if switches is not None:
            yield Metric(f"{name} switches", "1/request", switches / requests)
    yield Metric("processes", "1", sampler.most("processes"))
    yield Metric("threads", "1", sampler.most("threads"))
    waits = sampler.counted("waits")
    if waits:
        yield Metric("wake-ups", "1/request", waits / requests)
        for name, what in (
            ("descriptors_handed_in", "descriptors handed in"),
            ("descriptors_looked_at", "descriptors looked at"),
        ):
            counted = sampler.counted(name)
            if counted is not None:
                yield Metric(what, "1/wake-up", counted / waits)
