"""``neverblock load``: load for a server, and what it measured. Thin: `neverblock.load` does it."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from neverblock.cli.figures import Watcher, console, summary
from neverblock.cli.loops import backend_option
from neverblock.cli.options import (
    COUNT,
    SECONDS,
    TIMEOUT,
    Command,
    GroupedCommand,
    GroupedOption,
)
from neverblock.cli.refusal import Refusal
from neverblock.cli.values import Size

# A command that is not used costs nothing at start-up: these import no extra.
from neverblock.errors import PlanError
from neverblock.load import Plan, Result, run, run_on_fleet

FAILED = 1
#: 128 + SIGINT, as a shell has it.
INTERRUPTED = 130

DEFAULTS = {field.name: field.default for field in fields(Plan)}


def option(heading: str, *names: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option that has the default of its field."""
    default = DEFAULTS.get(names[0].lstrip("-"))
    if isinstance(default, int | float | str) and not attributes.get("is_flag"):
        attributes.setdefault("default", default)
        attributes.setdefault("show_default", default != 0)
    return click.option(*names, cls=GroupedOption, group=heading, **attributes)


@click.command(
    cls=GroupedCommand,
    epilog="""\b
Examples:
  neverblock load tcp://127.0.0.1:7000 --connections 1000 --duration 10
  neverblock load tcp://127.0.0.1:7000 --rate 50000 --connections 500 --ramp 5
  neverblock load redis://127.0.0.1:6379 --mix ping=1,set=2,get=7 --pipeline 16
  neverblock load http://127.0.0.1:8000/ --rate 2000 --max-errors 1% --json result.json

\b
Closed or open loop:
  Without --rate each connection sends its next request when it has its answer: how much can the
  server do? It waits while the server stalls, so few requests see the stall (coordinated omission).
  With --rate requests are sent by the clock, and latency counts from when each was due: what do
  users see who come at that rate?

\b
Exit codes:
  0 done, and no more errors than --max-errors
  1 more errors than that
  2 cannot be done as asked: one line says what is wrong, and the cure
  130 ended by Ctrl-C; what was measured until then is shown""",
)
@click.argument("target", metavar="URL")
@option("How much", "--connections", type=COUNT, metavar="N", help="Open at once, in all.")
@option(
    "How much",
    "--rate",
    type=TIMEOUT,
    metavar="R",
    help="Requests a second in all, by the clock (open loop). Default: as fast as answers come.",
)
@option(
    "How much",
    "--size",
    type=Size(),
    metavar="BYTES",
    help="Of a message, or a value of Redis; 1G at most.",
)
@option(
    "How much",
    "--pipeline",
    type=COUNT,
    metavar="N",
    help="Requests in flight on a connection at most.",
)
@option(
    "How much",
    "--idle",
    type=click.IntRange(min=0),
    metavar="N",
    help="Connections held open beside the others, saying nothing. Default: none.",
)
@option(
    "How much",
    "--mix",
    metavar="COMMAND=N,…",
    help="Of Redis: how many of each, out of ping, set and get.",
)
@option("How much", "--keys", type=COUNT, metavar="N", help="Of Redis: how many are used.")
@option("How long", "--duration", type=TIMEOUT, metavar="S", help="Seconds that are measured.")
@option(
    "How long",
    "--ramp",
    type=SECONDS,
    metavar="S",
    help="Seconds before that, in which connections and rate grow. Default: none.",
)
@option(
    "How long",
    "--warmup",
    type=SECONDS,
    metavar="S",
    help="Seconds of full load before that. Default: none.",
)
@option(
    "How long",
    "--timeout",
    type=TIMEOUT,
    metavar="S",
    help="Seconds that an answer, or opening a connection, may take.",
)
@option(
    "The client",
    "--processes",
    type=COUNT,
    metavar="N",
    help="Client processes, which share connections and rate. More where the client is the "
    "bottleneck; the summary says so.",
)
@option(
    "The client",
    "--cores",
    metavar="CPU,…",
    default="",
    help="Pin the processes to these CPUs, in turn; the server should have others.",
)
@option(
    "The client",
    "--fleet",
    is_flag=False,
    flag_value="local",
    metavar="[dask://HOST:PORT|local:N]",
    help="Share the load among the workers of a Dask cluster; without a value among a worker for "
    "each CPU here. --processes then is on each worker.",
)
@option("TLS", "--ca", metavar="FILE", help="Trust these certificates (PEM), not the system's.")
@option("TLS", "--insecure", is_flag=True, help="Take any certificate.")
@option(
    "Output",
    "--json",
    "json_file",
    metavar="FILE",
    help="Write the figures as JSON; - is standard output, and the summary goes to standard error.",
)
@option(
    "Output",
    "--hgrm",
    "hgrm_file",
    metavar="FILE",
    help="Write the percentiles of latency in milliseconds, for HdrHistogram's plotter.",
)
@option(
    "Output",
    "--max-errors",
    metavar="N|P%",
    default="0",
    show_default=True,
    help="Exit with 1 if there are more errors, or a larger share of all requests.",
)
@option("Output", "--quiet", is_flag=True, help="No progress and no summary.")
@backend_option
def load(
    target: str,
    json_file: str | None,
    hgrm_file: str | None,
    max_errors: str,
    quiet: bool,
    cores: str,
    fleet: str | None,
    **options: Any,
) -> int:
    """Put load on a server, and measure it.

    URL is tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH of a server that sends back what it
    gets; redis://HOST:PORT, or redis://USER:PASSWORD@HOST:PORT; or http://HOST:PORT/PATH. Every
    answer is checked; rediss:// and https:// are spoken over TLS.
    """
    allowed = Allowed.parse(max_errors)
    try:
        plan = Plan(target=target, cores=numbers(cores), **options)
        for file in (json_file, hgrm_file):
            writable(file)
        to_stderr = json_file == "-"
        with Watcher(plan, quiet) as watcher:
            if fleet is None:
                result = run(plan, on_progress=watcher)
            else:
                result = run_on_fleet(fleet, plan, on_progress=watcher)
    except PlanError as error:
        where = "" if error.name == "target" else f"--{error.name}: "
        raise Refusal(f"{where}{error.reason}") from None
    except ModuleNotFoundError as error:
        raise Refusal(str(error)) from None
    if not quiet:
        console(to_stderr).print(summary(plan, result))
    write(result, json_file, hgrm_file)
    if result.interrupted:
        return INTERRUPTED
    return FAILED if allowed.exceeded(result) else 0


class Allowed:
    """How many errors there may be."""

    def __init__(self, number: float, share: bool) -> None:
        self.number = number
        self.share = share

    @classmethod
    def parse(cls, text: str) -> "Allowed":
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text, re.ASCII)
        if found is None or (not found[2] and "." in found[1]):
            raise Refusal(f"--max-errors: write a number, or a share like 1%, not {text!r}")
        return cls(float(found[1]), bool(found[2]))

    def exceeded(self, result: Result) -> bool:
        if not self.share:
            return result.failures > self.number
        total = result.answers + result.failures
        return result.failures > total * self.number / 100


def numbers(text: str) -> tuple[int, ...]:
    """``1,2`` as numbers."""
    words = [word.strip() for word in text.split(",")] if text else []
    if not all(word.isascii() and word.isdigit() for word in words):
        raise PlanError("cores", f"write numbers of CPUs, like 1,2, not {text!r}")
    return tuple(map(int, words))


def writable(file: str | None) -> None:
    """Refuse a file that could not be written, before the run and not after it."""
    if file is None or file == "-":
        return
    try:
        with open(file, "a"):
            pass
    except OSError as error:
        raise Refusal(f"{file}: {error.strerror}; name a file that can be written") from None


def write(result: Result, json_file: str | None, hgrm_file: str | None) -> None:
    if json_file is not None:
        text = json.dumps(result.to_json(), indent=2)
        if json_file == "-":
            click.echo(text)
        else:
            Path(json_file).write_text(text + os.linesep)
    if hgrm_file is not None:
        result.latency.write(hgrm_file)
