"""``neverblock serve``: a handler on tcp:// and unix:// binds, until a signal says stop."""

import asyncio
import logging
import os

import click

from neverblock.cli.loops import backend_option, factory
from neverblock.cli.refusal import Refusal
from neverblock.errors import BindError, HandlerError
from neverblock.servers import MODELS, server, target


@click.command(
    epilog="""\b
Examples:
  neverblock serve examples/echo.py:handle
  neverblock serve app.py:handle --bind tcp://[::1]:7000 --bind unix:///run/app.sock
  neverblock serve package.module:handle --bind tcp://127.0.0.1:0 --backend poll
  neverblock serve app.py:handle --model pool --pool-size 16

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
@click.option(
    "--model",
    type=click.Choice(MODELS),
    default="loop",
    show_default=True,
    help="Who serves: one event loop for all; one after the other; a process for each; a thread "
    "for each; a pool of threads.",
)
@backend_option
@click.option(
    "--pool-size",
    type=click.IntRange(min=1),
    metavar="N",
    default=64,
    show_default=True,
    help="Threads of the pool model.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(min=1),
    metavar="N",
    help="Connections accepted at once by the models process, thread (1024) and pool (twice its "
    "size); what is over waits in the kernel.",
)
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
    model: str,
    backend: str | None,
    pool_size: int,
    max_connections: int | None,
    backlog: int,
    drain_timeout: float,
) -> None:
    """Serve many clients at once with one handler, an `async def handle(stream)`.

    Models other than the loop's take a plain `def handle(stream)` as well.

    Prints one line per bind when it accepts connections; logs to standard error.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    if backend is not None and model != "loop":
        raise Refusal(f"--backend is for the loop model; the {model} model waits in blocking calls")
    try:
        server.check_bounds(model, pool_size, max_connections)
    except ValueError as error:
        raise Refusal(str(error)) from None
    try:
        handle = target.load(handler, model)
    except HandlerError as error:
        raise Refusal(str(error)) from None

    async def serving() -> None:
        await server.serve(
            handle,
            binds,
            model=model,
            pool_size=pool_size,
            max_connections=max_connections,
            backlog=backlog,
            drain_timeout=drain_timeout,
            listening=announce,
        )

    try:
        with asyncio.Runner(loop_factory=factory(backend)) as runner:
            runner.run(serving())
    except BindError as error:
        raise Refusal(str(error)) from None


def announce(url: str, model: str, backend: str) -> None:
    waits = f", backend {backend}" if backend else ""
    details = f"model {model}{waits}, pid {os.getpid()}"
    click.echo(f"listening on {url} ({details})")
