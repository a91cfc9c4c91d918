"""What ``load`` shows: a line while it runs, a table of what it measured."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from neverblock.load import Plan, Progress, Result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

CURE = "More --processes on cores of their own, or another machine, can tell."

#: Units of time, the largest first: how many of them a second has.
UNITS = (("s", 1.0), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9))


def console(to_stderr: bool) -> "Console":
    """Where it is shown. Raises ModuleNotFoundError, with what to install."""
    try:
        from rich.console import Console
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "load needs the package rich: pip install 'neverblock[load]'", name=error.name
        ) from None
    return Console(stderr=to_stderr, highlight=False)


class Watcher:
    """A line on the terminal that says how far it is; nothing where there is no terminal."""

    def __init__(self, plan: Plan, quiet: bool) -> None:
        self.plan = plan
        self.quiet = quiet
        self.shown = ExitStack()
        self.status: Any = None
        self.last: Progress | None = None
        self.rate = 0.0

    def __enter__(self) -> Self:
        shown = console(to_stderr=True)
        if shown.is_terminal and not self.quiet:
            self.status = self.shown.enter_context(shown.status("starting"))
        return self

    def __exit__(self, *error: object) -> None:
        self.shown.close()

    def __call__(self, progress: Progress) -> None:
        if self.status is None:
            return
        last = self.last
        if last is None or progress.elapsed - last.elapsed >= 0.5:
            if last is not None:
                span = progress.elapsed - last.elapsed
                self.rate = (progress.requests - last.requests) / span
            self.last = progress
        self.status.update(line(self.plan, progress, self.rate))


def line(plan: Plan, progress: Progress, rate: float) -> str:
    """One line for how far it is."""
    total = plan.ramp + plan.warmup + plan.duration
    parts = [
        f"{progress.phase} {min(progress.elapsed, total):.0f}/{total:g} s",
        f"{progress.connections:,}/{counted(plan.connections, 'connection')}",
        f"{number(rate)}/s",
        counted(progress.requests, "answer"),
    ]
    if plan.idle:
        parts.insert(2, f"{progress.idle:,} idle")
    if progress.errors:
        parts.append(f"[red]{counted(progress.errors, 'error')}[/red]")
    return " · ".join(parts)


def summary(plan: Plan, result: Result) -> "Table":
    """All figures."""
    from rich.table import Table

    table = Table(title=title(plan), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for section in (throughput(plan, result), latency(result), errors(plan, result)):
        for name, value in section:
            table.add_row(name, value)
        table.add_section()
    for name, value in client(result):
        table.add_row(name, value)
    return table


def title(plan: Plan) -> str:
    how = f"{plan.rate:,.10g} requests/s by the clock" if plan.rate else "closed loop"
    several = f", {plan.pipeline} in flight on each" if plan.pipeline > 1 else ""
    return f"{escaped(plan.shown)}: {counted(plan.connections, 'connection')}{several}, {how}"


Rows = Iterator[tuple[str, str]]


def throughput(plan: Plan, result: Result) -> Rows:
    ended = " (ended early)" if result.interrupted else ""
    yield "measured", f"{result.seconds:.2f} s{ended}"
    yield "answers", f"{result.requests:,}"
    yield "throughput", f"{number(result.throughput)}/s"
    yield "sent, received", f"{size(result.bytes_sent)}, {size(result.bytes_received)}"


def latency(result: Result) -> Rows:
    since = " from when due" if result.corrected else ""
    for name, value in result.latency.summary().items():
        yield f"latency {name}{since if name == 'p50' else ''}", duration(value)


def errors(plan: Plan, result: Result) -> Rows:
    connect = result.connect
    yield "connections opened", f"{connect.count:,}"
    yield "connect p50, p99", ", ".join(map(duration, connect.percentiles([50, 99])))
    if plan.idle:
        idle = result.idle
        yield "idle connections", f"{idle.opened:,} of {idle.asked:,}"
        if idle.closed:
            yield "[yellow]idle ones closed by the server[/yellow]", f"{idle.closed:,}"
    yield "errors", f"{result.failures:,}"
    for kind, count in sorted(result.errors.items(), key=lambda pair: -pair[1]):
        detail = result.examples.get(kind, "")
        told = f" [dim]{escaped(detail)}[/dim]" if detail else ""
        yield f"[red]  {escaped(kind)}[/red]{told}", f"{count:,}"


def client(result: Result) -> Rows:
    busy = f"{result.busy:.0%} of a core"
    processes = len(result.clients)
    yield "client", f"{processes} processes, the busiest {busy}" if processes > 1 else busy
    if result.corrected:
        yield "sent late p99", duration(result.late.percentile(99))
    if result.bottleneck:
        yield (
            "[bold red]the client was the bottleneck[/bold red]: the server may be faster.\n"
            + CURE,
            "",
        )


def counted(count: int, what: str) -> str:
    """``1 error``, ``2,000 errors``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def number(value: float) -> str:
    """What may be large or small: ``1,234,568``, ``12.5``, ``0.4``."""
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it, also when it is rounded."""
    if seconds is None:
        return "–"
    fitting = (each for each in UNITS if float(f"{seconds * each[1]:.3g}") >= 1)
    unit, factor = next(fitting, UNITS[-1])
    return f"{number(seconds * factor)} {unit}"


def size(count: int) -> str:
    """Bytes in the unit that suits them."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:,.4g} {units[0]}"


def escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
