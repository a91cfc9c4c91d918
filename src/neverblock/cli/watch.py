"""``neverblock watch``: a Python program on the loop that it chooses itself, watched."""

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

import click

from neverblock import Watch
from neverblock.cli.outputs import chosen, output_options
from neverblock.cli.refusal import Refusal
from neverblock.cli.run import as_main
from neverblock.cli.values import Limit
from neverblock.watch import AVAILABLE
from neverblock.watch.everywhere import every_loop


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  neverblock watch -- uvicorn app:app
  neverblock watch --stall-threshold 0.02 -m package.module
  neverblock watch --strict -- pytest tests
  neverblock watch app.py --port 8000""",
)
@click.option("-m", "is_module", is_flag=True, help="The program is a module, as in python -m.")
@click.option(
    "--stall-threshold",
    type=Limit(),
    default=Watch.threshold,
    show_default=True,
    metavar="SECONDS",
    help="Tell which line blocks a loop when it does not answer for that long.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Let known blocking calls in the thread of a loop raise BlockingCallError.",
)
@output_options
@click.argument("program")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def watch(
    program: str,
    args: tuple[str, ...],
    is_module: bool,
    stall_threshold: float,
    strict: bool,
    **outputs: Any,
) -> Callable[[], int]:
    """Run a PROGRAM on the event loop that it chooses itself, and tell what blocks that loop.

    It is a script, a module with -m, or a command that is written in Python, like uvicorn. The loop
    is asked for a sign of life: a stall counts from when it was asked, up to half the threshold
    late, and many short callbacks in one turn count as one. Loops of neverblock are watched
    callback by callback. It holds for loops of processes that the program forks as well; other
    programs that it starts are neither watched nor strict.
    """
    if not AVAILABLE:
        raise Refusal("the watch needs Linux; run the program without it")
    if not is_module:
        program = script(program)
    told = chosen(stall_threshold, **outputs)

    def start() -> int:
        every_loop(Watch(threshold=stall_threshold, outputs=told, strict=strict))
        sys.argv = [program, *args]
        as_main(program, is_module)
        return 0

    return start


def script(program: str) -> str:
    """The file to run: the one that is named, else the command of that name."""
    if os.path.exists(program):
        if not os.access(program, os.R_OK):
            raise Refusal(f"no permission to read {program}")
        return program
    # Beside the interpreter as well: an environment that is not activated has its commands there.
    command = shutil.which(program) or shutil.which(program, path=os.path.dirname(sys.executable))
    if command is None:
        raise Refusal(
            f"no file and no command {program}; name a script, or a module with: "
            f"neverblock watch -m {program}"
        )
    with open(command, "rb") as file:
        first = file.readline(256)
    if not (first.startswith(b"#!") and b"python" in first):
        raise Refusal(
            f"{command} is no Python script; name its module with: neverblock watch -m NAME"
        )
    return command
