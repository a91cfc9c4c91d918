"""The command line: ``run``, ``serve``, ``watch``, ``load``, ``compare`` … Thin: a file for each.

A command returns what is left to do once click is out of the way, or None: a program that
``run`` starts must see neither click's frames nor its handling of exceptions.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Final

import click

from neverblock.cli.refusal import one_line

#: Each is the command of that name in the module of that name.
NAMES: Final = ("run", "serve", "watch", "load", "compare", "info")


class Commands(Mapping[str, click.Command]):
    """Loads a command when it is asked for: no server starts later for what compares servers."""

    def __getitem__(self, name: str) -> click.Command:
        if name not in NAMES:
            raise KeyError(name)
        command: click.Command = getattr(import_module(f"neverblock.cli.{name}"), name)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


@click.group(
    commands=Commands(),
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command explains itself: neverblock serve --help",
)
@click.version_option(package_name="neverblock", message="%(prog)s %(version)s")
@click.pass_context
def commands(context: click.Context) -> None:
    """An asyncio event loop with an engine of its own, and servers that run on it."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(args: list[str] | None = None) -> int:
    """Run a command; its exit code: 0 done, 1 failed, 2 asked for something impossible."""
    try:
        rest: Callable[[], int] | int | None = commands.main(
            args, prog_name="neverblock", standalone_mode=False
        )
    except click.ClickException as error:
        click.echo(one_line(error), err=True)
        return error.exit_code
    except click.Abort:
        click.echo("Aborted!", err=True)
        return 1
    return rest() if callable(rest) else rest or 0
