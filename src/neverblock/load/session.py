"""The part of a run that one process does.

- In order: find the server, open what has to be open, say so and wait for the start; then ask until
  the time is over, wait for the answers that are missing, and tell the figures.
- The start is a moment of the monotonic clock, which all processes of a machine share.
- It ends by itself: `timeout` after the measured time at the latest, or as soon as it is clear that
  nobody is there.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neverblock.errors import PlanError
from neverblock.load.client import Meter
from neverblock.load.connecting import context_of, places
from neverblock.load.crowd import Crowd
from neverblock.load.distribution import Distribution
from neverblock.load.kinds import NO_NAME, UNSENT, LoginError, kind_of
from neverblock.load.messages import OPENING, Progress, Ready
from neverblock.load.plan import Plan
from neverblock.load.protocols import protocol
from neverblock.load.recorder import nanoseconds
from neverblock.load.result import Idle, Result, Use
from neverblock.load.slots import Route, Slots

SECOND = 1_000_000_000

#: Seconds between two words to whoever watches.
OFTEN = 0.25
#: Seconds between two looks at whether all answers have come.
SOON = 0.002

#: What this process had to wait for a core, as its second word, in nanoseconds (proc(5)).
SCHEDULED = Path("/proc/self/schedstat")


@dataclass
class Moment:
    """What had been used and done at a time."""

    now: int
    cpu: int
    waited: int
    sent: int
    received: int

    @classmethod
    def of(cls, meter: Meter) -> "Moment":
        try:
            waited = int(SCHEDULED.read_text().split()[1])
        except (OSError, IndexError, ValueError):
            waited = 0
        return cls(nanoseconds(), time.process_time_ns(), waited, meter.sent, meter.received)


class Session:
    """One process's part of a plan. ``tell`` gets `Progress` and, once, `Ready`.

    ``first_source`` is the number of the first address to connect from (load/connecting.py).
    """

    def __init__(
        self, plan: Plan, index: int, tell: Callable[[object], None], first_source: int = 0
    ) -> None:
        self.plan = plan
        self.index = index
        self.tell = tell
        self.first_source = first_source
        self.loop = asyncio.get_running_loop()
        self.meter = Meter(
            self.loop.call_soon,
            self.loop.call_at,
            plan.rate,
            plan.ramp,
            index,
            plan.processes,
        )
        self.started: asyncio.Future[int | None] = self.loop.create_future()
        self.stopped = asyncio.Event()
        self.slots: Slots | None = None
        self.crowd: Crowd | None = None
        self.marks: list[Moment] = []

    # What it is told

    def go(self, began: int) -> None:
        """Start at that moment."""
        if not self.started.done():
            self.started.set_result(began)

    def stop(self) -> None:
        """End now, with the figures so far."""
        self.stopped.set()
        if not self.started.done():
            self.started.set_result(None)

    # The work

    async def run(self) -> Result:
        """All of it."""
        reporter = self.loop.create_task(self.report())
        try:
            await self.first(self.open())
            opened = 0 if self.slots is None else self.slots.alive
            gc.collect()
            gc.freeze()
            self.tell(Ready(opened))
            began = await self.started
            if began is not None and self.slots is not None:
                await self.first(self.load(began, self.slots))
        finally:
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)
        return self.result()

    async def first(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it, unless it is told to stop before it is done."""
        task = self.loop.create_task(work)
        stopping = self.loop.create_task(self.stopped.wait())
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
        for each in (task, stopping):
            each.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)
        if not task.cancelled():
            task.result()

    async def open(self) -> None:
        """Find the server, and open what has to be open before the start."""
        plan = self.plan
        context = context_of(plan)
        try:
            found = await places(plan.parsed, plan.timeout)
        except (OSError, TimeoutError) as error:
            kind = NO_NAME if isinstance(error, TimeoutError) else kind_of(error)
            self.meter.fail(kind, f"{plan.parsed.host}: {error}")
            return
        route = Route.of(plan, found, context, self.first_source)
        spoken = protocol(plan)
        try:
            await spoken.prepare(lambda each: route.enter(each, self.index), plan.timeout)
        except (OSError, TimeoutError) as error:
            if isinstance(error, LoginError) and error.cure:
                reason = f"{plan.shown}: {error}; {error.cure}"
                raise PlanError("target", reason) from None
            self.meter.fail(kind_of(error), str(error))
            return
        count = plan.connections + plan.idle
        idle = range(plan.connections + self.index, count, plan.processes)
        numbers = range(self.index, plan.connections, plan.processes)
        self.crowd = Crowd(route, self.meter, idle)
        self.slots = Slots(route, spoken.make, self.meter, numbers)
        await self.crowd.open()
        if plan.ramp:
            await self.slots.all[0].open()
        else:
            await self.slots.open()

    async def load(self, began: int, slots: Slots) -> None:
        """Ask from that moment on, until the time is over and all answers are there."""
        plan, meter = self.plan, self.meter
        opens = began + round((plan.ramp + plan.warmup) * SECOND)
        closes = opens + round(plan.duration * SECOND)
        patience = round(plan.timeout * SECOND)
        # Those that the opening kept waiting have had their time.
        last = closes if slots.hopeless.is_set() else closes + patience
        await asyncio.sleep((began - nanoseconds()) / SECOND)
        meter.start(began, opens, closes)
        if plan.ramp:
            slots.spread(plan.ramp)
        else:
            slots.go()
        for moment in (opens, closes):
            self.loop.call_at(moment / SECOND, self.mark)
        step = min(patience // 10, SECOND // 10)
        while (now := nanoseconds()) < closes:
            slots.look(now, patience)
            await asyncio.sleep(min(step, closes - now + 1) / SECOND)
        while (now := nanoseconds()) < last and (slots.busy() or meter.unsent()):
            slots.look(now, patience)
            await asyncio.sleep(SOON)
        slots.close(count=True)
        meter.fail(UNSENT, "all connections were busy", meter.unsent())

    def mark(self) -> None:
        self.marks.append(Moment.of(self.meter))

    # What it tells

    async def report(self) -> None:
        while True:
            self.tell(self.progress())
            await asyncio.sleep(OFTEN)

    def progress(self) -> Progress:
        meter, plan = self.meter, self.plan
        now = nanoseconds()
        phase, elapsed = OPENING, 0.0
        if meter.started:
            elapsed = (now - meter.opens) / SECOND + plan.ramp + plan.warmup
            phase = plan.phase(elapsed)
        alive = 0 if self.slots is None else self.slots.alive
        idle = 0 if self.crowd is None else self.crowd.count.opened - self.crowd.count.closed
        return Progress(phase, max(0.0, elapsed), alive, idle, meter.total, meter.failures)

    def result(self) -> Result:
        """The figures, as far as it came; afterwards nothing is open."""
        plan, meter = self.plan, self.meter
        interrupted = self.stopped.is_set()
        if self.slots is not None:
            self.slots.close(count=False)
        if self.crowd is not None:
            self.crowd.close()
        meter.close(nanoseconds())
        if len(self.marks) == 1:
            self.mark()
        use, seconds, sent, received = Use(0.0, 0.0), 0.0, 0, 0
        if self.marks:
            start, end = self.marks
            seconds = (min(meter.closes, end.now) - meter.opens) / SECOND
            span = (end.now - start.now) / SECOND
            use = Use((end.cpu - start.cpu) / SECOND, span, (end.waited - start.waited) / SECOND)
            sent, received = end.sent - start.sent, end.received - start.received
        return Result(
            target=plan.shown,
            corrected=meter.open_loop,
            seconds=seconds,
            throughput=meter.answered / seconds if seconds > 0 else 0.0,
            latency=Distribution.of(meter.latency.recorded()),
            connect=Distribution.of(self.slots.connect.recorded() if self.slots else ()),
            errors={kind: count for kind, count in meter.errors.items() if count},
            examples=dict(meter.examples),
            bytes_sent=sent,
            bytes_received=received,
            clients=[use],
            late=Distribution.of(meter.late.recorded()),
            idle=Idle() if self.crowd is None else self.crowd.count,
            answers=meter.total,
            interrupted=interrupted,
            began=meter.opens / SECOND if self.marks else None,
        )
