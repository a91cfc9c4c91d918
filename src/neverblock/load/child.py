"""A client process: takes an order, does its part, tells the result, and ends.

- Its only tie is a socket pair: when the other side of it closes, it ends at once.
- Ctrl-C is for who started it, and tells it to stop.
"""

import asyncio
import os
import signal
from multiprocessing.connection import Connection

import neverblock
from neverblock.errors import PlanError
from neverblock.load import limits
from neverblock.load.messages import Go, Order, Refused, Stop
from neverblock.load.session import Session


def main(descriptor: int) -> None:
    """The process's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tie: Connection = Connection(descriptor)
    try:
        order = tie.recv()
    except EOFError:
        return
    assert isinstance(order, Order)
    plan = order.plan
    try:
        if plan.cores:
            os.sched_setaffinity(0, {plan.cores[order.index % len(plan.cores)]})
        limits.raise_soft(plan)
        with asyncio.Runner(loop_factory=lambda: neverblock.Loop(plan.backend)) as runner:
            runner.run(work(order, tie))
    except PlanError as error:
        tie.send(Refused(error))
    tie.close()


async def work(order: Order, tie: Connection) -> None:
    """Do the part, and send the result."""
    session = Session(order.plan, order.index, tie.send, order.first_source)

    def hear() -> None:
        try:
            said = tie.recv()
        except (EOFError, OSError):
            os._exit(1)
        if isinstance(said, Go):
            session.go(said.began)
        elif isinstance(said, Stop):
            session.stop()

    asyncio.get_running_loop().add_reader(tie.fileno(), hear)
    tie.send(await session.run())
    # All is told. Closing thousands of sockets one by one is the kernel's work.
    os._exit(0)
