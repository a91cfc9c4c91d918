"""Which event loop the commands run on: the one place that names it."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterable
from typing import TypeAlias

import click

from neverblock import Guard, Loop, Watch, multiplexers
from neverblock.watch import Output

logger = logging.getLogger("neverblock.watch")

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


def backend_option(command: Callable[..., object]) -> Callable[..., object]:
    """``--backend``, refused with the reason where it cannot be had."""
    return click.option(
        "--backend",
        metavar="NAME",
        callback=usable,
        help=f"What the loop waits with: {', '.join(multiplexers.REGISTRY)}. "
        "Default: $NEVERBLOCK_BACKEND, else the best one here; `neverblock info` lists them.",
    )(command)


def usable(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    backend = name or os.environ.get("NEVERBLOCK_BACKEND")
    if backend:
        try:
            multiplexers.create(backend).close()
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return name


def factory(
    backend: str | None, debug: bool = False, watch: Watch | Guard | None = None
) -> LoopFactory:
    """A factory of loops with that backend (None: the default)."""

    def new_event_loop() -> asyncio.AbstractEventLoop:
        loop = Loop(backend, watch=watch)
        if debug:
            loop.set_debug(True)
        return loop

    return new_event_loop


def watching(
    threshold: float,
    outputs: Iterable[Output] = (),
    turn_threshold: float | None = None,
    strict: bool = False,
) -> Watch | Guard | None:
    """What watches the loops of a command; None: nobody, and where that was not asked for a
    warning says why."""
    if threshold:
        try:
            return Watch(
                threshold=threshold,
                turn_threshold=turn_threshold,
                outputs=tuple(outputs),
                strict=strict,
            )
        except RuntimeError as error:
            logger.warning("the loop is not watched: %s", error)
    return Guard() if strict else None


def make_default(new_event_loop: LoopFactory) -> None:
    """Let asyncio itself make its loops with that factory, for the rest of the process."""
    if sys.version_info >= (3, 14):
        # Policies are deprecated; asyncio's own code looks this function up when it needs a loop.
        for module in (asyncio, asyncio.events):
            setattr(module, "new_event_loop", new_event_loop)  # noqa: B010
        return

    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return new_event_loop()

    asyncio.set_event_loop_policy(Policy())
