"""A second client of a server that serves one at a time, and a queue that is full."""

from collections.abc import Iterator, Sequence

from neverblock.lab import programs, words
from neverblock.lab.experiment import (
    Bench,
    Case,
    Chart,
    Experiment,
    Found,
    Metric,
    Settings,
    Verdict,
)
from neverblock.lab.server import serving
from neverblock.lab.settings import ECHO

MODELS = ("iterative", "loop")
BACKLOGS = (1, 8, 64)
STAY = 1.0
MOST = 200


def cases(settings: Settings) -> list[Case]:
    return [
        {"model": model, "backlog": backlog}
        for model in MODELS
        for backlog in (BACKLOGS if model == "iterative" else BACKLOGS[-1:])
    ]


def measure(case: Case, bench: Bench) -> Iterator[Metric]:
    options = {**case, "drain_timeout": 1.0}
    with serving(ECHO, options, cores=bench.server_cores) as server:
        request = {
            "port": server.port,
            "stay": STAY,
            # Who accepts at once has no queue to fill.
            "most": MOST if case["model"] == "iterative" else 0,
        }
        found = programs.run(
            "neverblock.lab.queueing", request, cores=bench.client_cores, timeout=60.0
        )
    yield Metric("first client waits", "s", found["first"])
    yield Metric("second client waits", "s", found["second"])
    if case["model"] == "iterative":
        yield Metric("connections queued", "1", found["queued"])


def verdicts(found: Found) -> Sequence[Verdict]:
    made = []
    one = found.all("second client waits", model="iterative")
    if one:
        case, _ = max(one, key=lambda each: int(each[0]["backlog"] or 0))
        waits = found.fact("second client waits", **case)
        facts = {"iterative, second client": waits}
        text = (
            f"The first client stays {STAY:g} s. Until the second, which is connected all along, "
            f"is answered it takes {words.shown(waits.value, 's')} under the iterative model"
        )
        if found.all("second client waits", model="loop"):
            loop = found.fact("second client waits", model="loop")
            facts["loop, second client"] = loop
            text += f", {words.shown(loop.value, 's')} under the loop"
        made.append(
            Verdict(
                experiment=found.experiment,
                title="One at a time: the second client waits as long as the first stays"
                if waits.value >= 0.9 * STAY
                else "The second client did not wait for the first",
                text=text + ".",
                facts=facts,
            )
        )
    queues = {
        int(case["backlog"] or 0): found.fact("connections queued", **case)
        for case, _ in found.all("connections queued")
    }
    if queues:
        (least, first), *others = sorted(queues.items())
        told = [f"{words.counted(first.value, 'connection')} with a backlog of {least}"]
        told += [f"{queue.value:,.0f} with {backlog}" for backlog, queue in others]
        made.append(
            Verdict(
                experiment=found.experiment,
                title="Behind a server that accepts no more, the kernel keeps a queue",
                text=(
                    f"It took {words.listed(told)}. Whoever came then got no refusal, and was not "
                    f"connected: the kernel drops the first packet, and connect(2) tries again "
                    f"after a second and more."
                ),
                facts={f"backlog {backlog}": queue for backlog, queue in sorted(queues.items())},
            )
        )
    return made


EXPERIMENT = Experiment(
    name="listen-queue",
    title="The listen queue",
    question="What happens to the second client of a server that serves one at a time?",
    method=(
        "Two clients connect and send a byte at once. The first has its answer and stays for a "
        "second. Meanwhile more connect, until the kernel takes no more of them."
    ),
    charts=(
        Chart(
            metric="second client waits",
            unit="s",
            title="Until the second client is answered",
            x="model",
            kind="bar",
            where={"backlog": BACKLOGS[-1]},
        ),
        Chart(
            metric="connections queued",
            unit="1",
            title="Connections that the kernel takes meanwhile",
            x="backlog",
            series=("model",),
            log_x=True,
            log_y=True,
        ),
    ),
    cases=cases,
    measure=measure,
    verdicts=verdicts,
    seconds=lambda case, settings: 3.0,
    table=("first client waits", "second client waits", "connections queued"),
)
