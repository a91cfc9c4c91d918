"""``neverblock serve``: a handler on tcp:// and unix:// binds, until a signal says stop."""

import asyncio
import logging
import os

import click

from neverblock.cli.loops import backend_option, factory
from neverblock.cli.refusal import Refusal
from neverblock.errors import BindError, HandlerError
from neverblock.servers import server, target


@click.command(
    epilog="""\b
Examples:
  neverblock serve examples/echo.py:handle
  neverblock serve app.py:handle --bind tcp://[::1]:7000 --bind unix:///run/app.sock
  neverblock serve package.module:handle --bind tcp://127.0.0.1:0 --backend poll

\b
The handler:
  async def handle(stream):
      async for chunk in stream:
          await stream.send(chunk)

\b
Exit codes: 0 stopped by SIGTERM or SIGINT, 2 a wrong bind, handler or option.""",
)
@click.argument("handler", metavar="FILE.py:NAME|MODULE:NAME")
@click.option(
    "--bind",
    "binds",
    metavar="URL",
    multiple=True,
    default=("tcp://127.0.0.1:7000",),
    show_default=True,
    help="Where to listen: tcp://HOST:PORT (port 0: any free one) or unix:///PATH. Repeatable.",
)
@backend_option
@click.option(
    "--backlog",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Connections that may wait in the kernel until they are accepted.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="After SIGTERM or SIGINT, open connections may finish within this time; "
    "what is left is then aborted. A second signal aborts at once.",
)
def serve(
    handler: str,
    binds: tuple[str, ...],
    backend: str | None,
    backlog: int,
    drain_timeout: float,
) -> None:
    """Serve many clients at once with one handler, an `async def handle(stream)`.

    Prints one line per bind when it accepts connections; logs to standard error.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    try:
        handle = target.load(handler)
    except HandlerError as error:
        raise Refusal(str(error)) from None

    async def serving() -> None:
        await server.serve(
            handle, binds, backlog=backlog, drain_timeout=drain_timeout, listening=announce
        )

    try:
        with asyncio.Runner(loop_factory=factory(backend)) as runner:
            runner.run(serving())
    except BindError as error:
        raise Refusal(str(error)) from None


def announce(url: str, model: str, backend: str) -> None:
    details = f"model {model}, backend {backend}, pid {os.getpid()}"
    click.echo(f"listening on {url} ({details})")
