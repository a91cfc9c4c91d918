"""Load from several machines: each worker of a Dask cluster does a share of the plan.

- The cluster is Dask's `distributed`: it starts, names and watches the workers. A share is one
  task, bound to one worker; it opens its connections, says so, and waits for the word to start.
- The word is given once, when every share is open or lost: they start together.
- A worker that is lost is named and counted, and the figures of the others are kept.
- Whoever starts a cluster of its own (`local`) ends it; one that is given is left as it was.
- A share that nobody wants any more ends early, and leaves its worker free: the scheduler lets go
  of tasks whose client has released them, or has gone.
- Ctrl-C at a terminal reaches the workers of `local`, too. It is for who started them.
"""

import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from neverblock.errors import PlanError
from neverblock.load.connecting import addresses_for
from neverblock.load.kinds import LOST
from neverblock.load.messages import Progress
from neverblock.load.plan import Plan
from neverblock.load.processes import OnProgress, run
from neverblock.load.result import Result

if TYPE_CHECKING:
    from distributed import Client, Future

#: Seconds: how often a share tells how far it is, and is asked whether to go on.
PACE = 0.25
#: How long a worker may take to begin with its share, where others are free.
PATIENCE = 60.0

#: What a share tells.
BEGAN, READY, PROGRESS = "began", "ready", "progress"


def run_on_fleet(fleet: str, plan: Plan, on_progress: OnProgress | None = None) -> Result:
    """Do what the plan says on all workers of a fleet together. Blocks, like `run`.

    ``fleet`` is ``dask://HOST:PORT``, the address of a scheduler, or ``local``, a cluster of a
    worker for each CPU of this machine, or ``local:N``. Connections, rate and idle connections are
    shared evenly; ``plan.processes`` are started on each worker. Raises PlanError where there is no
    such fleet, ModuleNotFoundError where the extra ``fleet`` is not installed.
    """
    with ExitStack() as stack:
        client = stack.enter_context(cluster(fleet))
        workers = sorted(client.nthreads())
        if not workers:
            raise PlanError("fleet", f"no worker has joined {fleet}; start some: dask worker …")
        plans = shares(plan, len(workers))
        try:
            crew = Crew(client, dict(zip(workers, plans, strict=True)), on_progress)
            return stack.enter_context(closing(crew)).run(plan)
        except OSError as error:
            raise PlanError("fleet", f"the scheduler at {fleet} has gone: {error}") from None


def shares(plan: Plan, count: int) -> list[Plan]:
    """One for each worker; the first ones have what cannot be divided. Raises PlanError."""
    if plan.connections < count * plan.processes:
        raise PlanError(
            "connections",
            f"{plan.connections} cannot be shared by {count} workers of {plan.processes} "
            f"processes each; ask for {count * plan.processes} at least",
        )
    return [
        replace(
            plan,
            connections=part(plan.connections, count, index),
            idle=part(plan.idle, count, index),
            rate=None if plan.rate is None else plan.rate / count,
        )
        for index in range(count)
    ]


def part(total: int, count: int, index: int) -> int:
    return total // count + (index < total % count)


def first_sources(plans: list[Plan]) -> list[int]:
    """The number of the first address that each of the shares connects from.

    Workers of one machine have the ports of its addresses together. Where one address has enough
    for all of them, that is 0 for each.
    """
    held = [plan.connections + plan.idle for plan in plans]
    step = 0 if addresses_for(sum(held)) == 1 else addresses_for(max(held))
    return [step * index for index in range(len(plans))]


@contextmanager
def cluster(fleet: str) -> "Iterator[Client]":
    """A client of that fleet. Raises PlanError."""
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "a fleet needs Dask's distributed: pip install 'neverblock[fleet]'"
        ) from None
    kind, _, rest = fleet.partition(":")
    if kind == "dask" and rest.startswith("//"):
        try:
            client = Client(f"tcp://{rest[2:]}", timeout=5, set_as_default=False)
        except (OSError, ValueError) as error:
            raise PlanError("fleet", f"no scheduler answers at {fleet}: {error}") from None
        with client:
            yield client
    elif kind == "local" and (not rest or rest.isdecimal()):
        with (
            LocalCluster(
                n_workers=int(rest) if rest else None,
                threads_per_worker=1,
                processes=True,
                dashboard_address="127.0.0.1:0",
            ) as local,
            Client(local, set_as_default=False) as client,
        ):
            client.run(ignore_interrupts)
            yield client
    else:
        raise PlanError("fleet", f"write dask://HOST:PORT, local or local:N, not {fleet!r}")


def ignore_interrupts() -> None:
    """In a worker, whose loop runs in its process's main thread: no other may do it (signal)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass
class Share:
    """What is known of one worker's part."""

    worker: str
    future: "Future[Any]"
    opened: int | None = None
    began: bool = False
    progress: Progress | None = None
    result: Result | None = None
    lost: str | None = None

    @property
    def over(self) -> bool:
        return self.result is not None or self.lost is not None


@dataclass
class Crew:
    """All shares of a run, and what they are told."""

    client: "Client"
    plans: dict[str, Plan]
    on_progress: OnProgress | None = None
    news: threading.Event = field(default_factory=threading.Event)
    run_id: str = field(default_factory=lambda: f"neverblock-load-{uuid.uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        from distributed import Event

        self.go = Event(f"{self.run_id}-go", client=self.client)
        self.stop = Event(f"{self.run_id}-stop", client=self.client)
        self.client.subscribe_topic(self.run_id, self.hear)
        firsts = first_sources(list(self.plans.values()))
        self.shares = {
            worker: Share(
                worker,
                self.client.submit(
                    work,
                    plan,
                    self.run_id,
                    first,
                    workers=[worker],
                    allow_other_workers=False,
                    pure=False,
                    retries=0,
                    key=f"{self.run_id}-{index}",
                ),
            )
            for index, ((worker, plan), first) in enumerate(
                zip(self.plans.items(), firsts, strict=True)
            )
        }
        for share in self.shares.values():
            share.future.add_done_callback(lambda future: self.news.set())

    def close(self) -> None:
        """Let go of all that the scheduler has for this run."""
        with suppress(OSError, ValueError):  # The scheduler may have gone.
            self.client.unsubscribe_topic(self.run_id)
        for share in self.shares.values():
            share.future.release()

    def run(self, plan: Plan) -> Result:
        """Let them do it."""
        interrupted = False
        try:
            self.wait(lambda share: share.opened is not None, self.begun_in_time())
            self.go.set()
            self.wait(lambda share: False, self.finished_in_time(plan))
        except KeyboardInterrupt:
            interrupted = True
            self.stop.set()
            self.go.set()
            self.wait(lambda share: False, self.finished_in_time(plan))
        return self.sum(plan, interrupted)

    def hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """What a share tells, in a thread of the client's."""
        _, said = event
        share = self.shares.get(said["worker"])
        if share is None:
            return
        share.began = True
        if said["what"] == READY:
            share.opened = said["opened"]
            self.news.set()
        elif said["what"] == PROGRESS:
            share.progress = Progress(**said["progress"])

    def wait(self, enough: Callable[[Share], bool], overdue: Callable[[Share], str | None]) -> None:
        """Until each share has done enough, or is over."""
        while left := [
            share for share in self.shares.values() if not (share.over or enough(share))
        ]:
            self.news.wait(PACE)
            self.news.clear()
            there = self.client.nthreads()
            for share in left:
                self.look(share, there, overdue)
            if self.on_progress is not None and (total := self.progress()) is not None:
                self.on_progress(total)

    def look(
        self, share: Share, there: dict[str, int], overdue: Callable[[Share], str | None]
    ) -> None:
        if share.future.status == "finished":
            share.result = Result.from_json(share.future.result())
        elif share.future.status == "error":
            error = share.future.exception()
            if isinstance(error, PlanError):
                raise error
            share.lost = f"{share.worker}: {error}"
        elif share.worker not in there:
            share.lost = f"{share.worker}: has left the cluster"
        elif share.future.status in ("lost", "cancelled"):
            share.lost = f"{share.worker}: its task is {share.future.status}"
        else:
            share.lost = overdue(share)
        if share.lost is not None:
            share.future.cancel()

    def begun_in_time(self) -> Callable[[Share], str | None]:
        end = time.monotonic() + PATIENCE

        def overdue(share: Share) -> str | None:
            if share.began or time.monotonic() < end:
                return None
            return f"{share.worker}: has not begun within {PATIENCE:g} s; other tasks keep it busy"

        return overdue

    def finished_in_time(self, plan: Plan) -> Callable[[Share], str | None]:
        end = time.monotonic() + plan.ramp + plan.warmup + plan.duration + plan.timeout + PATIENCE

        def overdue(share: Share) -> str | None:
            return None if time.monotonic() < end else f"{share.worker}: does not come to an end"

        return overdue

    def progress(self) -> Progress | None:
        total: Progress | None = None
        for share in self.shares.values():
            if share.progress is not None:
                total = share.progress if total is None else total.plus(share.progress)
        return total

    def sum(self, plan: Plan, interrupted: bool) -> Result:
        total = Result.empty(plan.shown, corrected=plan.rate is not None)
        for share in self.shares.values():
            if share.result is not None:
                total.merge(share.result)
            else:
                total.fail(LOST, share.lost or share.worker)
        total.interrupted = interrupted
        return total


def work(plan: Plan, run_id: str, first_source: int) -> dict[str, Any]:
    """One share, in a thread of a Dask worker."""
    from distributed import Event, get_worker

    worker = get_worker()
    key = worker.get_current_task()
    go, stop = Event(f"{run_id}-go"), Event(f"{run_id}-stop")
    told = asked = time.monotonic() - PACE
    opened = 0

    def ended() -> bool:
        """Whether it is told to stop, or nobody waits for it any more."""
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled" or stop.is_set()

    def tell(what: str, **more: Any) -> None:
        worker.log_event(run_id, {"worker": worker.address, "what": what, **more})

    def on_progress(progress: Progress) -> None:
        nonlocal told, asked, opened
        opened = progress.connections
        now = time.monotonic()
        if now - told >= PACE:
            told = now
            tell(PROGRESS, progress=vars(progress))
        if now - asked >= 4 * PACE:
            asked = now
            if ended():
                raise KeyboardInterrupt  # as run() hears it

    def gate() -> None:
        tell(READY, opened=opened)
        while not go.wait(timeout=4 * PACE):
            if ended():
                raise KeyboardInterrupt

    tell(BEGAN)
    return run(plan, on_progress, gate=gate, first_source=first_source).to_json()
