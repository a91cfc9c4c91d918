"""``neverblock run``: a Python program as ``python`` would run it, with our loop in asyncio."""

import builtins
import io
import os
import runpy
import sys
import zipfile
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType
from typing import Any

import click

from neverblock import Watch
from neverblock.cli.loops import backend_option, factory, make_default, watching
from neverblock.cli.outputs import chosen, output_options
from neverblock.cli.refusal import Refusal
from neverblock.cli.values import Limit, Threshold


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  neverblock run app.py --port 8000
  neverblock run -m package.module
  neverblock run --backend poll --debug app.py""",
)
@click.option("-m", "is_module", is_flag=True, help="The program is a module, as in python -m.")
@backend_option
@click.option("--debug", is_flag=True, help="Turn the debug mode of asyncio on.")
@click.option(
    "--stall-threshold",
    type=Threshold(),
    default=Watch.threshold,
    show_default=True,
    metavar="SECONDS|off",
    help="Tell which line blocks the loop when a callback takes longer. off, or 0: do not watch.",
)
@click.option(
    "--turn-threshold",
    type=Limit(),
    metavar="SECONDS",
    help="Tell which callbacks take the time when those of one turn take longer together. Default: "
    "as --stall-threshold.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Let known blocking calls in the loop's thread raise BlockingCallError.",
)
@output_options
@click.argument("program")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(
    program: str,
    args: tuple[str, ...],
    is_module: bool,
    backend: str | None,
    debug: bool,
    stall_threshold: float,
    turn_threshold: float | None,
    strict: bool,
    **outputs: Any,
) -> Callable[[], int]:
    """Run a PROGRAM that uses asyncio on the loop of neverblock, unchanged.

    It sees what `python PROGRAM ARGS` would show it. Loops made by asyncio.run, asyncio.Runner
    and asyncio.new_event_loop are ours; a program that names another loop itself gets that one.
    """
    if not is_module and not os.access(program, os.R_OK):
        problem = "no permission to read" if os.path.exists(program) else "no file"
        raise Refusal(
            f"{problem} {program}; name a script, or a module with: neverblock run -m {program}"
        )

    told = chosen(stall_threshold, turn_threshold, **outputs)

    def start() -> int:
        watch = watching(stall_threshold, told, turn_threshold, strict)
        make_default(factory(backend, debug, watch))
        sys.argv = [program, *args]
        as_main(program, is_module)
        return 0

    return start


def as_main(program: str, is_module: bool) -> None:
    """What the interpreter does with ``program`` or ``-m program``, in a fresh ``__main__``.

    The module stays in place afterwards: threads and exit handlers of the program may need it.
    """
    main = ModuleType("__main__")
    vars(main).update(__builtins__=builtins)
    if sys.version_info < (3, 14):  # made where they are asked for, since (PEP 649)
        vars(main).update(__annotations__={})
    sys.modules["__main__"] = main
    try:
        if is_module:
            replace_first_path(os.getcwd())
            # Private, but it is what `python -m` itself calls, the same in every version.
            runpy._run_module_as_main(program)  # type: ignore[attr-defined]
        elif os.path.isdir(program) or zipfile.is_zipfile(program):
            replace_first_path(os.path.abspath(program))
            runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        else:
            replace_first_path(os.path.dirname(os.path.realpath(program)))
            file = os.path.abspath(program)
            vars(main).update(
                __file__=file,
                __loader__=SourceFileLoader("__main__", file),
            )
            if sys.version_info < (3, 15):
                vars(main).update(__cached__=None)
            with io.open_code(file) as source:
                code = compile(source.read(), file, "exec", dont_inherit=True)
            exec(code, vars(main))
    except BaseException:
        hide_own_frames()
        raise


def replace_first_path(directory: str) -> None:
    """Put ``directory`` where the interpreter put that of our own script."""
    if not sys.flags.safe_path:
        sys.path[0] = directory


def hide_own_frames() -> None:
    """Let the interpreter show an exception of the program without the frames of ours above it."""
    show = sys.excepthook

    def show_program(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        programs = below_own_frames(trace)
        show(kind, error.with_traceback(programs), programs)

    sys.excepthook = show_program


def below_own_frames(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code is not as_main.__code__:
        trace = trace.tb_next
    if trace is not None:
        trace = trace.tb_next
    while trace is not None and trace.tb_frame.f_globals is vars(runpy):
        trace = trace.tb_next
    return trace
