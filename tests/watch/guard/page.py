"""The table of the guard's reference page, from the guard's own; ``python page.py`` writes it."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import blockbuster

from neverblock.watch.guard.call import Call
from neverblock.watch.guard.table import TABLE

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "guard.md"
BEGIN, END = "<!-- table -->\n", "<!-- /table -->\n"

#: Names that blockbuster has for rows of ours.
SAME = {"builtins.input": "input", "os.scandir": "os.scandir.__next__"}


def theirs() -> set[str]:
    return {SAME.get(name, name) for name in blockbuster.BlockBuster().functions}


def how(call: Call) -> str:
    match call.how:
        case "event" | "through":
            return f"{call.how} `{call.at}`"
        case "lock":
            return "entry, if it is held"
        case "socket":
            return "entry, if it blocks"
        case "wait":
            return "entry, but where asyncio's loop waits"
        case "next":
            return "iteration"
    return call.how


def same(call: Call) -> tuple[str, ...]:
    in_blockbuster = "yes" if call.name in theirs() else ""
    return how(call), call.instead().replace(call.name, "…"), in_blockbuster, call.java


def table() -> str:
    lines = [
        "| call | how it is caught | instead | blockbuster | BlockHound |",
        "|---|---|---|---|---|",
    ]
    rows = [call for call in TABLE if call.how != "shield"]
    for (caught, cure, yes, java), calls in groupby(rows, same):
        names = ", ".join(f"`{call.name}`" for call in calls)
        lines.append(f"| {names} | {caught} | {cure} | {yes} | {java} |")
    return "\n".join(lines).replace("|  |", "| |").replace("|  |", "| |") + "\n"


def written(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
