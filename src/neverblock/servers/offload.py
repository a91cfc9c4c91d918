"""A plain ``def handle(stream)`` under the loop model: in a pool of threads, its I/O in the loop.

The handler's thread waits while the loop receives and sends for it. A thread cannot be ended from
outside: one whose connection is gone learns of it at its next call, and until then counts as
running.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from neverblock.servers.handler import Handler, Stream
from neverblock.servers.plain import BlockingStream, PlainHandler
from neverblock.servers.threads import Threads

Result = TypeVar("Result")


def offloaded(handler: PlainHandler, threads: Threads, begins: Callable[[Stream], None]) -> Handler:
    """A handler for the loop that runs ``handler`` in one of ``threads``, in the task's context.

    ``begins`` is called before, in that thread.
    """

    async def handle(stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        context = copy_context()
        outcome: asyncio.Future[None] = loop.create_future()

        def finish(coroutine: Coroutine[Any, Any, Result], /) -> Result:
            try:
                future = asyncio.run_coroutine_threadsafe(coroutine, loop)
            except RuntimeError:  # The loop is closed: it waited long enough.
                coroutine.close()
                raise
            return future.result()

        def work() -> None:
            error: BaseException | None = None
            try:
                begins(stream)
                context.run(handler, BlockingStream(stream, finish))
            except BaseException as raised:
                # A SystemExit, too, ends this connection alone.
                error = raised
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, outcome, error)

        threads.submit(work)
        try:
            await asyncio.wait((outcome,))
        except asyncio.CancelledError:
            # The connection was aborted; the loop's own end cancels once more.
            await asyncio.wait((outcome,))
            raise
        outcome.result()

    return handle


def settle(outcome: "asyncio.Future[None]", error: BaseException | None) -> None:
    if outcome.done():
        return
    if error is None:
        outcome.set_result(None)
    elif isinstance(error, Exception) and not isinstance(error, StopIteration):
        outcome.set_exception(error)
    else:
        # A future cannot hold it, or asyncio would take it for its own.
        wrapped = RuntimeError(f"the handler raised {type(error).__name__}")
        wrapped.__cause__ = error
        outcome.set_exception(wrapped)
