"""Handlers that wait, handlers that compute: which way to serve gets most done?"""

from collections.abc import Iterator, Mapping, Sequence

from neverblock.lab import ways, words
from neverblock.lab.calling import call
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
    leaders,
    outdone,
)
from neverblock.lab.server import serving
from neverblock.lab.ways import Way

CALLERS = 100
#: Milliseconds of each question.
WORK: Mapping[str, Sequence[float]] = {"wait": (1, 10, 100), "compute": (0.1, 1, 10)}
QUICK: Mapping[str, Sequence[float]] = {"wait": (10,), "compute": (1,)}


def cases(settings: Settings) -> list[Case]:
    models = settings.models or ("loop", "workers", "thread", "pool", "process")
    return [
        {"model": model, "work": work, "milliseconds": length}
        for work, lengths in (QUICK if settings.quick else WORK).items()
        for length in lengths
        for model in models
        if model != "iterative"
    ]


def measure(case: Case, bench: Bench) -> Iterator[Metric]:
    way = Way(str(case["model"]))
    seconds = float(case["milliseconds"] or 0) / 1000
    with serving(
        "neverblock.lab.handlers:works", way.options(CALLERS), cores=bench.both_cores
    ) as server:
        answers = call(
            server,
            cores=bench.both_cores,
            count=at_once(way),
            plain=f"{case['work']} {seconds:g}",
            seconds=bench.settings.duration,
            warmup=bench.settings.warmup,
        )
        yield Metric("throughput", "1/s", len(answers.plain) / answers.seconds)
        yield from answers.latencies()
        yield Metric("served at once", "1", at_once(way))


def at_once(way: Way) -> int:
    """A pool has so many places, and who has none is never answered while the others stay."""
    return min(CALLERS, way.at_once or CALLERS)


def verdicts(found: Found) -> Sequence[Verdict]:
    facts: dict[str, Fact] = {}
    sentences: list[str] = []
    best_for: dict[str, str] = {}
    for work in WORK:
        lengths = {case["milliseconds"] for case, _ in found.all("throughput", work=work)}
        winners: dict[str, int] = {}
        for length in sorted(float(each or 0) for each in lengths):
            ranked = sorted(
                found.all("throughput", work=work, milliseconds=length),
                key=lambda each: -each[1].median,
            )
            case, best = ranked[0]
            close = leaders(ranked)
            for each in close:
                winners[str(each["model"])] = winners.get(str(each["model"]), 0) + 1
            facts[f"{work} {length:g} ms, {case['model']}"] = found.fact("throughput", **case)
            last, least = outdone(ranked)
            sentences.append(
                f"{work} {length:g} ms: {ways.listed(close)} with "
                f"{'up to ' if len(close) > 1 else ''}{words.shown(best.median, '1/s')}"
                + (
                    f", {last['model']} least with {words.shown(least.median, '1/s')}."
                    if len(close) < len(ranked)
                    else "."
                )
            )
        if winners:
            best_for[work] = ways.listed(
                {"model": each} for each in winners if winners[each] == max(winners.values())
            )
    if not best_for:
        return []
    return [
        Verdict(
            experiment=found.experiment,
            title=title(best_for),
            text="Most answers a second, and what cannot be told from it. " + " ".join(sentences),
            facts=facts,
        )
    ]


def title(best_for: Mapping[str, str]) -> str:
    """Who gets most done with most lengths of each kind of work."""
    kinds = {"wait": "where handlers wait", "compute": "where they compute"}
    if len(best_for) > 1 and len(set(best_for.values())) == 1:
        best = next(iter(best_for.values()))
        return f"Most gets done by {best}, {kinds['wait']} and {kinds['compute']}"
    told = [f"by {best} {kinds[work]}" for work, best in best_for.items()]
    return f"Most gets done {', '.join(told)}"


def charts() -> Iterator[Chart]:
    for work, title in (("wait", "Handlers that wait"), ("compute", "Handlers that compute")):
        yield Chart(
            metric="throughput",
            unit="1/s",
            title=f"{title}: answers a second",
            x="milliseconds",
            series=("model",),
            kind="grid",
            where={"work": work},
        )
    for work, title in (("wait", "Handlers that wait"), ("compute", "Handlers that compute")):
        yield Chart(
            metric="latency p99",
            unit="s",
            title=f"{title}: 99 of 100 are answered within",
            x="milliseconds",
            series=("model",),
            log_x=True,
            log_y=True,
            where={"work": work},
        )


EXPERIMENT = Experiment(
    name="waiting-or-computing",
    title="Waiting or computing",
    question="Which way to serve fits handlers that wait, and which those that compute?",
    method=(
        f"{CALLERS} callers (of a pool as many as it has places: 64) ask again once they are "
        "answered. Each question makes its handler wait, as for a database, or use processor time "
        "in Python. The server may use two cores at most, which its callers share; there are two "
        "workers. Iterative servers are left out: they serve one caller."
    ),
    charts=tuple(charts()),
    cases=cases,
    measure=measure,
    verdicts=verdicts,
    seconds=lambda case, settings: 1.5 + settings.warmup + settings.duration,
    table=("throughput", "latency p50", "latency p99"),
)
