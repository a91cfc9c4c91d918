"""``neverblock serve``: a handler on tcp:// and unix:// binds, until a signal says stop."""

import logging
import os
from typing import Unpack

import click

from neverblock.cli.loops import backend_option
from neverblock.cli.refusal import Refusal
from neverblock.errors import BindError, HandlerError, SettingsError
from neverblock.servers import MODELS, Options, Server, Settings, target


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
    help="Threads of the pool model, or of the loop model with --offload.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(min=1),
    metavar="N",
    help="Connections accepted at once; what is over waits in the kernel. Default: 1024 under "
    "process and thread, twice --pool-size under pool, no bound under loop.",
)
@click.option(
    "--offload",
    is_flag=True,
    help="Run a plain `def handle(stream)` under the loop model, in --pool-size threads.",
)
@click.option(
    "--idle-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Close a connection whose peer keeps its handler waiting for so long. Default: never.",
)
@click.option(
    "--handler-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Close a connection whose handler takes longer than this. Default: never.",
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
    "what is left is then reset. A second signal resets at once.",
)
def serve(
    handler: str,
    binds: tuple[str, ...],
    backend: str | None,
    **options: Unpack[Options],
) -> None:
    """Serve many clients at once with one handler, an `async def handle(stream)`.

    Models other than the loop's take a plain `def handle(stream)` as well.

    Prints one line per bind when it accepts connections; logs to standard error.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    if backend is not None and options["model"] != "loop":
        raise Refusal(
            f"--backend is for the loop model; the {options['model']} model waits in blocking calls"
        )
    try:
        handle = target.load(handler, Settings(**options))
        Server(handle, binds, backend=backend, **options).run(listening=announce)
    except SettingsError as error:
        raise Refusal(f"--{error.name.replace('_', '-')}: {error.reason}") from None
    except (BindError, HandlerError) as error:
        raise Refusal(str(error)) from None


def announce(url: str, model: str, backend: str) -> None:
    waits = f", backend {backend}" if backend else ""
    details = f"model {model}{waits}, pid {os.getpid()}"
    click.echo(f"listening on {url} ({details})")
