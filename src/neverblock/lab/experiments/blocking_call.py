"""One handler in a hundred calls something that blocks: who else has to wait?"""

import re
from collections.abc import Iterator, Sequence

from neverblock.lab import words
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
    derived,
)
from neverblock.lab.handlers import BLOCKED
from neverblock.lab.server import serving
from neverblock.lab.ways import Way, place

CALLERS = 40
#: Each asks five times a second: 200 questions a second, two of which block.
INTERVAL = 0.2
EVERY = 100
#: Seconds after which the watch tells that the loop stands.
THRESHOLD = 0.1

NOTHING, BLOCKING, HANDED = "nothing blocks", "one in 100 blocks", "one in 100, to_thread"
METHOD = (
    f"{CALLERS} callers ask 200 questions a second, by the clock. One in a hundred makes its "
    f"handler sleep for {BLOCKED * 1000:.0f} ms in time.sleep, which stands for a database driver "
    "or a slow disk. What is shown is how long all the others waited for their answers, counted "
    "from when each question was due. Iterative servers are left out: there everybody waits anyway."
)
#: The watch's line in the server's log.
TOLD = re.compile(r"loop blocked .*handlers\.py:\d+ in blocks\b")


def cases(settings: Settings) -> list[Case]:
    models = settings.models or ("loop", "workers", "thread", "pool", "process")
    found: list[Case] = []
    for model in models:
        if model != "iterative":
            found += [{"model": model, "call": what} for what in (NOTHING, BLOCKING)]
        if model in ("loop", "workers"):
            found.append({"model": model, "call": HANDED})
    return found


def measure(case: Case, bench: Bench) -> Iterator[Metric]:
    way = Way(str(case["model"]))
    handler = "hands_over" if case["call"] == HANDED else "blocks"
    with serving(
        f"neverblock.lab.handlers:{handler}",
        way.options(CALLERS),
        cores=bench.server_cores,
        stall_threshold=THRESHOLD,
    ) as server:
        answers = call(
            server,
            cores=bench.client_cores,
            count=CALLERS,
            plain="answer",
            marked="block",
            every=0 if case["call"] == NOTHING else EVERY,
            interval=INTERVAL,
            seconds=bench.settings.duration,
            warmup=bench.settings.warmup,
        )
        yield from answers.latencies()
        yield Metric("calls that blocked", "1", len(answers.marked))
        if way.model == "loop":
            yield Metric("stalls told with the line", "1", len(TOLD.findall(server.log())))


def verdicts(found: Found) -> Sequence[Verdict]:
    facts: dict[str, Fact] = {}
    sentences: list[str] = []
    harmed: list[str] = []
    unharmed: list[str] = []
    models = {str(case["model"]) for case, _ in found.all("latency p99")}
    for model in sorted(models, key=lambda model: place(Way(model))):
        quiet = found.one("latency p99", model=model, call=NOTHING)
        if quiet is None or found.one("latency p99", model=model, call=BLOCKING) is None:
            continue
        before = found.fact("latency p99", model=model, call=NOTHING)
        after = found.fact("latency p99", model=model, call=BLOCKING)
        facts[f"{model}, p99 of the others"] = after
        growth = derived(after, after.value / before.value, "1", before)
        # Half the call: what noise makes of a quiet millisecond is not meant.
        (harmed if after.value > BLOCKED / 2 else unharmed).append(model)
        sentences.append(
            f"{model}: {words.shown(after.value, 's')} instead of "
            f"{words.shown(before.value, 's')}{longer(growth.value)}."
        )
    if not facts:
        return []
    text = ["The p99 of everybody else.", *sentences, *cure(found, facts), *told(found)]
    return [
        Verdict(
            experiment=found.experiment,
            title=title(harmed, unharmed),
            text=" ".join(text),
            facts=facts,
        )
    ]


def title(harmed: list[str], unharmed: list[str]) -> str:
    if not harmed:
        return "Nobody else noticed the blocking call"
    others = f"; not under {words.listed(unharmed)}" if unharmed else ""
    return f"One blocking call in a hundred makes others wait under {words.listed(harmed)}{others}"


def longer(growth: float) -> str:
    return f", {words.times(growth)} as long" if growth >= 1.5 else ""


def cure(found: Found, facts: dict[str, Fact]) -> Iterator[str]:
    """What to_thread makes of it, for the loop."""
    if found.one("latency p99", model="loop", call=HANDED) is None:
        return
    handed = found.fact("latency p99", model="loop", call=HANDED)
    facts["loop with to_thread, p99 of the others"] = handed
    yield f"With the call in asyncio.to_thread, the loop's is {words.shown(handed.value, 's')}."


def told(found: Found) -> Iterator[str]:
    """What the watch said meanwhile."""
    stalls = found.one("stalls told with the line", model="loop", call=BLOCKING)
    if stalls is not None and stalls.median:
        yield (
            f"Meanwhile the watch named the line that blocked {words.often(stalls.median)} in each "
            f"round, time.sleep in lab/handlers.py; it tells the same line more and more seldom."
        )


EXPERIMENT = Experiment(
    name="blocking-call",
    title="One blocking call",
    question="What does one slow call do to everybody else?",
    method=METHOD,
    charts=(
        Chart(
            metric="latency p99",
            unit="s",
            title="99 of 100 answers to everybody else came within",
            x="model",
            series=("call",),
            kind="bar",
            log_y=True,
        ),
        Chart(
            metric="latency p50",
            unit="s",
            title="Half of the answers to everybody else came within",
            x="model",
            series=("call",),
            kind="bar",
            log_y=True,
        ),
    ),
    cases=cases,
    measure=measure,
    verdicts=verdicts,
    seconds=lambda case, settings: 1.5 + settings.warmup + settings.duration,
    table=("latency p50", "latency p99", "latency max"),
)
