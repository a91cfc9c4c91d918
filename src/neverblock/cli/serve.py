"""``neverblock serve``: a handler on binds of every kind, until a signal says stop."""

import logging
import os
import sys
from contextlib import closing
from functools import partial
from typing import Any

import click

from neverblock.cli import logs
from neverblock.cli.config import config_option
from neverblock.cli.loops import backend_option, factory, watching
from neverblock.cli.options import (
    GroupedCommand,
    GroupedOption,
    refusal,
    settings,
    settings_options,
)
from neverblock.cli.refusal import Refusal
from neverblock.errors import BindError, HandlerError, SettingsError
from neverblock.servers import Server, limits, target
from neverblock.servers.listen import check, choose
from neverblock.servers.settings import Settings
from neverblock.servers.tls.context import context_of

logger = logging.getLogger("neverblock.server")

FAILED = 1
#: The exit code where connections were open when the time to finish was over.
RESET = 3


@click.command(
    cls=GroupedCommand,
    epilog="""\b
Examples:
  neverblock serve examples/echo.py:handle
  neverblock serve app.py:handle --bind tcp://*:7000 --bind unix:///run/app.sock
  neverblock serve package.module:handle --bind tcp://127.0.0.1:0 --backend poll
  neverblock serve app.py:handle --model pool --pool-size 16
  neverblock serve --config app.toml --check

\b
The handler:
  async def handle(stream):
      async for chunk in stream:
          await stream.send(chunk)

\b
Exit codes:
  0 stopped by a signal, every connection finished
  1 failed on its own, and the log says how
  2 cannot be started as asked: one line says what is wrong, and the cure
  3 stopped, but connections had to be reset when the drain timeout was over or by a second
    signal (SuccessExitStatus=3 in a systemd unit)""",
)
@click.argument("handler", metavar="FILE.py:NAME|MODULE:NAME")
@click.option(
    "--bind",
    "binds",
    cls=GroupedOption,
    group="Where",
    metavar="URL",
    multiple=True,
    help="tcp://HOST:PORT (port 0: any free one; tcp://*:PORT: every address, IPv4 and IPv6), "
    "unix:///PATH, or fd://NUMBER or fd://NAME for a socket that systemd passed on. Repeatable. "
    "Default: every socket that was passed on, else tcp://127.0.0.1:7000.",
)
@settings_options
@backend_option
@config_option
@click.option(
    "--check",
    "check_only",
    is_flag=True,
    help="Say whether it could be served like this, and end. A server that runs already, there "
    "or elsewhere, does not notice.",
)
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    show_default=True,
    help="What is written to standard error: lines for people, or a JSON object on each.",
)
@click.pass_context
def serve(
    context: click.Context,
    /,
    handler: str,
    binds: tuple[str, ...],
    backend: str | None,
    check_only: bool,
    **options: Any,
) -> int:
    """Serve many clients at once with one handler, an `async def handle(stream)`.

    Models other than the loop's take a plain `def handle(stream)` as well.

    Prints one line per bind when it accepts connections; logs to standard error.
    """
    logs.set_up(options["log_format"])
    chosen = settings(context, options)
    if backend is not None and chosen.model != "loop":
        raise Refusal(
            f"--backend is for the loop model; the {chosen.model} model waits in blocking calls"
        )
    try:
        urls = choose(binds, later=check_only)
        if check_only:
            return checked(handler, urls, chosen, backend)
        if chosen.model == "loop":
            watching(chosen.stall_threshold)  # Here, and not in each of the workers.
        # By name: workers import it themselves, and anew after SIGHUP.
        server = Server(handler, urls, backend=backend, **options)
        reset = server.run(listening=partial(announce, chosen))
    except SettingsError as error:
        raise refusal(context, error) from None
    except (BindError, HandlerError) as error:
        raise Refusal(str(error)) from None
    except Exception:
        logger.critical("the server failed", exc_info=True)
        forget_what_cannot_be_written()
        return FAILED
    return RESET if reset else 0


def forget_what_cannot_be_written() -> None:
    """The interpreter would try again at its end, and change the exit code to 120."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = None


def checked(handler: str, urls: list[str], chosen: Settings, backend: str | None) -> int:
    """What else would be refused: raises for it, without listening anywhere."""
    target.load(handler, chosen)
    with closing(factory(backend)()) as loop:
        limits.fitted(chosen, getattr(loop, "backend", ""))
    context_of(chosen)
    _ = chosen.watch
    where = [url if check(url) else f"{url} (if it is passed on)" for url in urls]
    click.echo(f"ok: {handler} under the {chosen.model} model on {', '.join(where)}")
    return 0


def announce(chosen: Settings, url: str, model: str, backend: str) -> None:
    waits = f", backend {backend}" if backend else ""
    workers = f", {chosen.workers} worker{'s' if chosen.workers > 1 else ''}"
    secure = ", TLS" if chosen.certfile is not None else ""
    details = f"model {model}{waits}{workers if chosen.workers else ''}{secure}, pid {os.getpid()}"
    click.echo(f"listening on {url} ({details})")
