"""What a run's own figures say against them: clients without time to spare, rounds that disagree.

How far the medians of two runs lie apart follows from how far the rounds of one do: the standard
error of the median of n values is about sqrt(pi / 2n) times their standard deviation. Deviations
are taken of logarithms, for figures differ by a factor, whatever their size.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist, median, stdev
from typing import Final

from neverblock.lab.results import CaseKey, Row, key, summaries

#: What of each case is judged by its rounds.
JUDGED: Final = ("throughput", "time per wake-up")
#: Spread of a metric over its rounds past which it is told that figures vary: typical, of all.
SPREAD: Final = 0.2
#: Spread of a figure past which it is wild, and the share of such figures that is told.
WIDE: Final = 0.5
MANY: Final = 0.1
#: How near the medians of two runs should be, and how many of them.
NEAR: Final = 0.1
MOST: Final = 0.9
#: The share of a core from which on a client has no time to spare.
BUSY: Final = 0.95


def limited(rows: Sequence[Row]) -> list[str]:
    """A sentence where clients had no time to spare: the server may do better than was measured."""
    busy = {key(row.case) for row in rows if row.metric == "client busy" and row.value >= BUSY}
    if not busy:
        return []
    cases = "1 case" if len(busy) == 1 else f"{len(busy)} cases"
    return [
        f"in {cases} the clients' core was busy all the time: the server may be faster than it says"
    ]


def varied(rows: Sequence[Row]) -> list[str]:
    """Sentences where the rounds do not agree well."""
    spreads = []
    for experiment, metric in {(row.experiment, row.metric) for row in rows}:
        if metric in JUDGED:
            found = summaries(rows, experiment, metric).values()
            spreads += [summary.spread for summary in found if summary.rounds > 1]
    if not spreads:
        return [] if not rows or max(row.round for row in rows) > 1 else ["one round only"]
    typical, wild = median(spreads), sum(spread > WIDE for spread in spreads)
    told = []
    if typical > SPREAD:
        told.append(
            f"rounds differ: from lowest to highest a figure typically varies by {typical:.0%}"
            + repeated(rows)
        )
    if wild > MANY * len(spreads):
        told.append(
            f"{wild} of {len(spreads)} figures vary by more than half from round to round: look at "
            f"their spread before you trust a difference"
        )
    return told


def repeated(rows: Sequence[Row]) -> str:
    """How well another such run would agree, and what would make it agree well."""
    found = [logarithms for logarithms in rounds(rows).values() if len(logarithms) > 1]
    if not found:
        return ""
    deviation, number = median(map(stdev, found)), round(median(map(len, found)))
    share, enough = agreeing(deviation, number), rounds_for(deviation)
    if share >= MOST:
        return ""
    return (
        f"; another such run would have about {share:.0%} of its medians within {NEAR:.0%} "
        f"of these, and {MOST:.0%} with --rounds {enough}"
    )


def rounds(rows: Sequence[Row]) -> dict[tuple[str, str, CaseKey], list[float]]:
    """The logarithm of what is judged, in each round of each case; of nothing there is none."""
    found: dict[tuple[str, str, CaseKey], list[float]] = {}
    for row in rows:
        if row.metric in JUDGED and row.value > 0:
            case = (row.experiment, row.metric, key(row.case))
            found.setdefault(case, []).append(math.log(row.value))
    return found


def agreeing(deviation: float, number: int) -> float:
    """The share of medians of so many rounds that another run would have within NEAR of these."""
    apart = deviation * math.sqrt(math.pi / number)
    return 2 * NormalDist().cdf(math.log1p(NEAR) / apart) - 1 if apart else 1.0


def rounds_for(deviation: float) -> int:
    """How many it takes until MOST of them agree so."""
    apart = math.log1p(NEAR) / NormalDist().inv_cdf((1 + MOST) / 2)
    return math.ceil(math.pi * (deviation / apart) ** 2)
