"""How a stall is told: two to four lines for people, with fields for machines."""

import logging
import traceback
from typing import Any

from neverblock.watch import stack
from neverblock.watch.ledger import seconds
from neverblock.watch.stall import Cause, Place, Share, Stall

logger = logging.getLogger("neverblock.watch")

COLUMN = 46
#: Coroutines of a chain that are shown.
LONGEST_CHAIN = 6
#: Lines that are told of one stall, each with at least this share of the time.
MOST_LINES = 4
LEAST_SHARE = 0.1


def log(stall: Stall) -> None:
    """One record, with the stall's fields."""
    logger.warning("%s", text(stall), extra=fields(stall))


def log_failure(error: BaseException) -> None:
    """That this kept a stall from being told."""
    try:
        logger.error("the watch failed to report a stall", exc_info=error)
    except Exception:  # A handler of the log's: perhaps it was what failed before, too.
        traceback.print_exc()


def text(stall: Stall) -> str:
    if stall.over:
        return free(stall)
    return turn(stall) if stall.is_turn else blocked(stall)


def blocked(stall: Stall) -> str:
    task = f' (task "{stall.task}")' if stall.task else ""
    lines = [f"neverblock: loop blocked {seconds(stall.duration)} and counting{where(stall)}{task}"]
    if stall.source:
        lines.append(f"    {stall.source:<{COLUMN}} {why(stall)}")
        if marked := stack.expression(stall.place):
            lines.append("    " + " " * marked[0] + "^" * (marked[1] - marked[0]))
    else:
        lines.append(f"    {why(stall)}")
    return "\n".join([*lines, *(f"    {line}" for line in further(stall))])


def further(stall: Stall) -> list[str]:
    """Lines that say who waits for whom, and what to write instead."""
    lines = []
    if len(stall.chain) > 1:
        lines.append(f"await chain: {chain(stall.chain)}")
    if stall.culprit is not None:
        name = f" (thread {stall.culprit_thread})" if stall.culprit_thread else ""
        verb = "held by" if stall.cause is Cause.GIL else "another thread is at"
        lines.append(f"{verb} {stall.culprit}{name}")
    if stall.hint:
        lines.append(f"hint: {stall.hint}")
    return lines


def turn(stall: Stall) -> str:
    head = f"loop blocked {seconds(stall.duration)} and counting: {callbacks(stall)}"
    lines = [f"neverblock: {head}, most of the time {stall.place or 'not known'}"]
    lines += [f"    {share.place!s:<{COLUMN}} {part(share, stall.timed)}" for share in stall.top]
    return "\n".join([*lines, *(f"    {line}" for line in further(stall))])


def callbacks(stall: Stall) -> str:
    return f"{stall.callbacks:,} callbacks in one turn"


def part(share: Share, timed: float) -> str:
    """What one function took of the time, and how often it was called."""
    percent = min(round(100 * share.total / timed), 100) if timed > 0 else 100
    return (
        f"{percent:>3} % of it, {share.count:,} ×, {share.total / share.count * 1e6:,.0f} µs each"
    )


def where(stall: Stall) -> str:
    if stall.is_turn:
        return f": {callbacks(stall)}, most of the time {stall.place or 'not known'}"
    if stall.place is not None:
        return f": {stall.place}"
    if stall.callback is not None:
        return f": {stall.callback}, a callback without Python code"
    return ": a callback without Python code"


def chain(places: tuple[Place, ...]) -> str:
    """The task's coroutine and the innermost; of long chains the middle is left out."""
    shown = [f"{place.function} ({place.shown})" for place in places]
    if len(shown) > LONGEST_CHAIN:
        shown[2 : 4 - LONGEST_CHAIN] = ["…"]
    return " → ".join(shown)


def why(stall: Stall) -> str:
    if not stall.detail:
        return str(stall.cause)
    return f"{stall.cause}{' ' if stall.detail.startswith(('in ', 'on ')) else ', '}{stall.detail}"


def free(stall: Stall) -> str:
    again = (
        f"; {ordinal(stall.count)} time here, {seconds(stall.total)} in all"
        if stall.count > 1
        else ""
    )
    return (
        f"neverblock: loop free again after {seconds(stall.duration)}"
        f"{spread(stall) or where(stall)} ({shares(stall)}){again}"
    )


def spread(stall: Stall) -> str:
    """Where the time of a callback went, if it was more than one line; else ""."""
    if stall.is_turn:
        return ""
    total = sum(sample.seconds for sample in stall.samples)
    lines: dict[Place, float] = {}
    for sample in stall.samples:
        place = stack.own_line(sample.stack)
        if place is not None:
            lines[place] = lines.get(place, 0.0) + sample.seconds
    parts = [
        f"{100 * time / total:.0f} % at {place}"
        for place, time in sorted(lines.items(), key=lambda line: -line[1])
        if time >= LEAST_SHARE * total
    ]
    return ": " + ", ".join(parts[:MOST_LINES]) if len(parts) > 1 else ""


def shares(stall: Stall) -> str:
    if stall.duration <= 0:
        return "0 % on CPU"
    cpu = min(round(100 * stall.cpu / stall.duration), 100)
    queued = min(round(100 * stall.queued / stall.duration), 100 - cpu)
    queue = f"{queued} % without one, " if queued >= 5 else ""
    return f"{cpu} % on CPU, {queue}{100 - cpu - queued} % asleep"


def ordinal(number: int) -> str:
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ends.get(number % 10, 'th')}"


def fields(stall: Stall) -> dict[str, Any]:
    """For logging's ``extra``: none has the name of an attribute of a LogRecord."""
    place = stall.place
    return {
        "stall_over": stall.over,
        "stall_seconds": round(stall.duration, 4),
        "stall_cause": stall.cause.value,
        "stall_detail": stall.detail,
        "stall_file": place.file if place else None,
        "stall_line": place.line if place else None,
        "stall_column": place.column if place else None,
        "stall_end_column": place.end_column if place else None,
        "stall_function": place.function if place else None,
        "stall_source": stall.source,
        "stall_task": stall.task,
        "stall_callback": stall.callback,
        "stall_chain": [of_place(each) for each in stall.chain],
        "stall_culprit": of_place(stall.culprit) if stall.culprit else None,
        "stall_culprit_thread": stall.culprit_thread,
        "stall_hint": stall.hint,
        "stall_cpu_seconds": round(stall.cpu, 4),
        "stall_queued_seconds": round(stall.queued, 4),
        "stall_callbacks": stall.callbacks,
        "stall_top": [
            {
                "place": of_place(share.place),
                "count": share.count,
                "seconds": round(share.total, 6),
                "longest_seconds": round(share.longest, 6),
            }
            for share in stall.top
        ],
        "stall_count": stall.count,
        "stall_total_seconds": round(stall.total, 4),
    }


def of_place(place: Place) -> dict[str, Any]:
    return {
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "end_column": place.end_column,
        "function": place.function,
        "coroutine": place.coroutine,
    }
