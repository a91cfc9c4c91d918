"""``neverblock compare``: what each way to serve costs. Thin: neverblock.lab measures."""

import difflib
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from neverblock.cli.options import GroupedCommand, GroupedOption
from neverblock.cli.refusal import Refusal
from neverblock.cli.values import Size
from neverblock.errors import LabError, ResultsError
from neverblock.lab import baseline as older
from neverblock.lab import order, report, ways
from neverblock.lab.experiments import NAMES, load
from neverblock.lab.results import Results
from neverblock.lab.results import load as load_results
from neverblock.lab.settings import ECHO, PROTOCOLS, Settings
from neverblock.lab.ways import MODELS, PEERS

REGRESSED = 1
INTERRUPTED = 130

RESULTS = "results.json"


Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def option(heading: str, *names: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    return click.option(*names, cls=GroupedOption, group=heading, **attributes)


@click.command(
    cls=GroupedCommand,
    epilog="""\b
Examples:
  neverblock compare                                            an echo server, every model
  neverblock compare app.py:handle --models loop,thread --connections 10,1000 --out report
  neverblock compare app.py:handle --models loop --backends all --peers asyncio,uvloop
  neverblock compare --experiment scanning                      a question by itself
  neverblock compare --from report/results.json                 show it again
  neverblock compare --from new.json --baseline old.json --tolerance 0.05

\b
Exit codes:
  0 done
  1 something became worse than the baseline by more than the tolerance, or a measurement failed
  2 cannot be done as asked, or its results cannot be written: one line says what is wrong, and the
    cure; what was measured until then is shown
  130 ended by Ctrl-C; what was measured until then is kept""",
)
@click.argument("handler", metavar="[FILE.py:NAME|MODULE:NAME]", required=False)
@option(
    "What",
    "--experiment",
    "experiments",
    metavar="NAME",
    multiple=True,
    help=f"A question to settle: {', '.join(NAMES)}; or all. Repeatable.",
)
@option(
    "What",
    "--models",
    default="all",
    show_default=True,
    metavar="NAME,…",
    help=f"{', '.join(MODELS)}; or all.",
)
@option(
    "What",
    "--backends",
    metavar="NAME,…",
    help="What the loop model waits with: "
    f"{', '.join(ways.backends())}; or all. Default: the best one here.",
)
@option(
    "What",
    "--peers",
    metavar="NAME,…",
    help=f"Other event loops to serve on: {', '.join(PEERS)}, where they are installed, or any "
    "module that has new_event_loop.",
)
@option(
    "What",
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    default="echo",
    show_default=True,
    help="What the handler speaks.",
)
@option(
    "How much",
    "--connections",
    default="1,10,100,1000",
    show_default=True,
    metavar="N,…",
    help="Clients at once.",
)
@option(
    "How much",
    "--size",
    type=Size(),
    default=1024,
    show_default=True,
    metavar="BYTES",
    help="Of a message.",
)
@option(
    "How long",
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the load of a case is measured in a round.",
)
@option(
    "How long",
    "--warmup",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    metavar="SECONDS",
    help="Load before that, which is not measured.",
)
@option(
    "How long",
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="How often everything is measured.",
)
@option(
    "How long",
    "--quick",
    is_flag=True,
    help="One round, half a second each, fewer cases: a first look, not a result.",
)
@option(
    "Output",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help=f"Keep {RESULTS} and the report there. Default: nothing is kept.",
)
@option(
    "Output",
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Measure nothing; show this {RESULTS} again.",
)
@option(
    "Output",
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Tell what changed since this {RESULTS}.",
)
@option(
    "Output",
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="How much a median may be worse than the baseline's.",
)
@click.pass_context
def compare(
    context: click.Context,
    /,
    handler: str | None,
    source: Path | None,
    baseline: Path | None,
    tolerance: float,
    out: Path | None,
    **options: Any,
) -> int:
    """Measure what each way to serve costs, with your handler or with one of its own.

    HANDLER is what `neverblock serve` takes. Without --experiment every model serves it, under more
    and more clients.
    """
    try:
        from neverblock.lab import terminal
    except ModuleNotFoundError as error:
        raise Refusal(f"{error.name} is needed; pip install 'neverblock[lab]'") from None
    if sys.platform != "linux":
        raise Refusal("the lab reads proc(5), which only Linux has")
    before = None if baseline is None else read(baseline)
    if source is not None:
        if handler is not None:
            raise Refusal(f"--from measures nothing; leave out {handler}")
        chosen = Settings()
        results = read(source)
        names = [each.name for each in results.experiments if each.name in NAMES]
    else:
        chosen = settings(handler, **options)
        names = list(chosen.experiments)
    if out is not None:
        prepare(out)
    console = terminal.console()
    experiments = [load(name) for name in names]
    failed = False
    if source is not None:
        from neverblock.lab.run import judged_again

        results = judged_again(results, experiments)
    else:
        run, ended = measured(experiments, chosen, out, console)
        results, failed = run.results(ended is None), bool(run.failures)
        if ended is not None:
            terminal.show(results, experiments, console)
            if isinstance(ended, Refusal):
                raise ended
            keep(results, before, out, tolerance)
            return INTERRUPTED
    terminal.show(results, experiments, console)
    keep(results, before, out, tolerance)
    if before is not None:
        changes = older.changes(before, results)
        gone = older.gone(before, results)
        different = older.differences(before, results)
        terminal.show_changes(changes, gone, different, tolerance, console)
        pairs, levels = order.pairs(before, results), order.levels(before, results)
        terminal.show_order(pairs, levels, tolerance, console)
        failed = failed or bool(gone) or any(each.worse(tolerance) for each in changes)
    return REGRESSED if failed else 0


def measured(experiments: Sequence[Any], chosen: Settings, out: Path | None, console: Any) -> Any:
    """The run, and what ended it early: an interrupt, or a Refusal as it could not be kept."""
    from neverblock.lab import terminal
    from neverblock.lab.run import Run

    def save(results: Results) -> None:
        if out is None:
            return
        try:
            results.save(out / RESULTS)
        except OSError as error:
            told = f"cannot write in {out}: {error.strerror}; what was measured is not kept there"
            raise Refusal(told) from None

    run = Run(experiments, chosen, shlex.join(["neverblock", *sys.argv[1:]]), save)
    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        with terminal.progress(run, console):
            return run, None
    except (KeyboardInterrupt, Refusal) as ended:
        return run, ended
    finally:
        signal.signal(signal.SIGTERM, earlier)


def interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def settings(handler: str | None, experiments: tuple[str, ...], **options: Any) -> Settings:
    """What was asked for. Raises Refusal for a name that is unknown."""
    names = [name for given in experiments for name in given.split(",")] or [next(iter(NAMES))]
    chosen = named("--experiment", names, [*NAMES, "all"])
    quick = bool(options["quick"])
    backends = split(options["backends"])
    return Settings(
        experiments=tuple(NAMES) if "all" in chosen else chosen,
        handler=handler or ECHO,
        models=expanded("--models", split(options["models"]), MODELS),
        backends=expanded("--backends", backends, ways.backends()) if backends else (),
        peers=loops(split(options["peers"])),
        connections=counts(options["connections"]),
        protocol=options["protocol"],
        duration=0.5 if quick else options["duration"],
        warmup=0.2 if quick else options["warmup"],
        rounds=1 if quick else options["rounds"],
        size=options["size"],
        quick=quick,
    )


def split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def expanded(name: str, given: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    chosen = named(name, given, [*known, "all"])
    return tuple(known) if "all" in chosen else chosen


def named(option: str, given: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """Each once. Raises Refusal for one that is not known, with the one that was meant."""
    chosen = tuple(dict.fromkeys(given))
    for name in chosen:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            cure = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise Refusal(f"{option}: there is no {name}; {cure}")
    if not chosen:
        raise Refusal(f"{option}: name one of {', '.join(known)}")
    return chosen


def loops(given: Iterable[str]) -> tuple[str, ...]:
    """Each once. Raises Refusal for one that is neither known nor found."""
    chosen = tuple(dict.fromkeys(given))
    for name in chosen:
        if name not in PEERS and not ways.importable(name):
            close = difflib.get_close_matches(name, PEERS, 1, 0.8)  # Most names are none of these.
            cure = f"did you mean {close[0]}?" if close else "name a module that can be imported"
            raise Refusal(f"--peers: there is no {name}; {cure}")
    return chosen


def counts(text: str) -> tuple[int, ...]:
    found = []
    for part in split(text):
        if not part.isascii() or not part.isdigit() or int(part) < 1:
            raise Refusal(f"--connections: write numbers from 1 on, like 1,10,100, not {part!r}")
        found.append(int(part))
    if not found:
        raise Refusal("--connections: write numbers from 1 on, like 1,10,100")
    return tuple(sorted(set(found)))


def prepare(out: Path) -> None:
    """Make the folder, and see that files can be written there: now, and not after the run.

    Raises Refusal, also where the report could not be drawn.
    """
    try:
        report.require()
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
        if (out / RESULTS).is_dir():
            raise IsADirectoryError(None, "is a folder", str(out / RESULTS))
    except OSError as error:
        reason = error.strerror or str(error)
        raise Refusal(f"--out: cannot write in {out}: {reason}; name another folder") from None
    except LabError as error:
        raise Refusal(f"--out: {error}") from None


def read(path: Path) -> Results:
    try:
        return load_results(path)
    except ResultsError as error:
        raise Refusal(str(error)) from None
    except OSError as error:
        raise Refusal(f"cannot read {path}: {error.strerror}") from None


def keep(results: Results, before: Results | None, out: Path | None, tolerance: float) -> None:
    """Write the results and their report into the folder, if one was named."""
    if out is None:
        return
    try:
        results.save(out / RESULTS)
        path = report.write(results, out, before, tolerance)
    except OSError as error:
        raise Refusal(f"cannot write in {out}: {error.strerror}") from None
    click.echo(f"\nreport: {path}")
