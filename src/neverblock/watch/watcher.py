"""One watched loop: its sentinel, and the thread that reports what the sentinel finds.

- The reporter's thread is a daemon: it may wait for the GIL for as long as the loop is stuck.
- It holds the loop weakly: a loop that is forgotten without close() goes, and its watch with it.
- Any thread may stop it, also while another one starts it: both hold its lock, and neither while
  it waits for the reporter.
- A forked child has no watch: at the fork, all that was the parent's is dropped.
"""

import asyncio
import atexit
import gc
import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from neverblock.engine.engine import Engine
from neverblock.watch import classify, debugger, hints, report, sampler, stack, turns
from neverblock.watch.ledger import Ledger
from neverblock.watch.outputs import Output
from neverblock.watch.outputs.output import attempt
from neverblock.watch.outside import Outside
from neverblock.watch.sentinel import Sentinel, collection
from neverblock.watch.stall import Cause, Place, Sample, Stall

#: Where the sentinel writes while the GIL cannot be had.
STANDARD_ERROR = 2
LOST = (
    "neverblock: stalls are not told: too many wait already, "
    "for what on_stall, the outputs and the handlers of the log do with each"
)


class Watcher:
    """Watches one loop from its first run until stop()."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threshold: float,
        turn_threshold: float,
        signal: int | None,
        on_stall: Callable[[Stall], object] | None,
        outputs: Sequence[Output] = (),
        log_format: str = "text",
    ) -> None:
        self._number = next(numbers)
        self._loop = weakref.ref(loop)
        # A loop that is not ours has no pulse: it is asked for one.
        self._outside: Outside | None = None
        if isinstance(loop, Engine):
            self._pulse = loop._pulse
        else:
            self._outside = Outside()
            self._pulse = self._outside.pulse
        self._ident: int | None = None
        self._threshold = threshold
        self._turn_threshold = turn_threshold
        self._tally = self._pulse.keep_tally()
        self._signal = signal
        self._on_stall = on_stall
        self._outputs = outputs
        self._log_format = log_format
        self._sentinel: Sentinel | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # for starting and stopping
        self._stopped = False
        self._paused = False
        self._current: Stall | None = None
        self._loud = False
        self._turn: Stall | None = None
        self._turn_loud = False
        #: They may be of a turn.
        self._told: deque[turns.Told] = deque(maxlen=1000)
        self._lost = 0

    def enter(self) -> None:
        """The calling thread runs the loop from now on."""
        with self._lock:
            begins = self._sentinel is None and not self._stopped and self._start()
            sentinel = self._sentinel
        if begins and sentinel is not None:
            sentinel.search_gil()
            for output in self._outputs:
                if (loop := self._loop()) is not None:
                    attempt(output, output.begin, loop)
        if sentinel is not None:
            self._ident = threading.get_ident()
            if self._outside is not None and (loop := self._loop()) is not None:
                self._outside.join(loop)
            sentinel.enter()

    def leave(self) -> None:
        """It does not run any more, for the time being."""
        self._ident = None
        if (sentinel := self._sentinel) is not None:
            sentinel.leave()
            if self._outside is not None and (loop := self._loop()) is not None:
                self._outside.part(loop)

    def stop(self) -> None:
        """End both threads; what was found is told before. Idempotent."""
        with self._lock:
            self._stopped = True
            sentinel, self._sentinel = self._sentinel, None
        if sentinel is None:
            return
        sentinel.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)
        give_back(self, self._signal)
        for output in self._outputs:
            attempt(output, output.flush)

    def pause(self) -> None:
        """Before a fork: end both threads, so that no lock of theirs is taken in the child."""
        sentinel, thread = self._sentinel, self._thread
        # A program's on_stall may fork: its thread cannot wait for itself.
        if sentinel is None or thread is None or thread is threading.current_thread():
            return
        self._paused = True
        sentinel.pause()
        thread.join(1.0)
        gone(sentinel.native_id)
        if not thread.is_alive():
            gone(thread.native_id)

    def resume(self) -> None:
        """After the fork."""
        paused, self._paused = self._paused, False
        with self._lock:
            if not paused or self._sentinel is None:
                return
            try:
                self._begin(self._sentinel)
            except RuntimeError as error:
                self._sentinel = None
                self._stopped = True
                give_back(self, self._signal)
                unwatched(error)

    def abandon(self) -> None:
        """In a forked child."""
        self._lock = threading.RLock()  # A thread that is not here may hold the parent's.
        self._stopped = True
        if self._sentinel is not None:
            self._sentinel.abandon()
            self._sentinel = None

    def _start(self) -> bool:
        """Whether that was possible."""
        try:
            claim(self, self._signal)
        except (OSError, NotImplementedError) as error:
            self._signal = None
            claim(self, None)
            report.logger.warning(
                "a line that holds the GIL is only told when the loop is free again: "
                "stacks are taken under the GIL alone: %s",
                error,
            )
        except (RuntimeError, ValueError) as error:
            self._stopped = True
            unwatched(error)
            return False
        sentinel = Sentinel(
            self._pulse,
            self._threshold,
            self._turn_threshold,
            STANDARD_ERROR,
            [os.fsencode(prefix) for prefix in stack.library()],
            [os.fsencode("\0".join(each)) for each in stack.OUTERMOST],
            os.fsencode(current_directory()),
            self._signal is not None,
            self._log_format == "json",
            self._outside,
        )
        try:
            self._begin(sentinel)
        except RuntimeError as error:
            self._stopped = True
            give_back(self, self._signal)
            unwatched(error)
            return False
        self._sentinel = sentinel
        return True

    def _begin(self, sentinel: Sentinel) -> None:
        before = self._thread
        sentinel.start()
        self._thread = threading.Thread(
            target=self._report, args=(sentinel, before), name="neverblock-watch", daemon=True
        )
        debugger.spare(self._thread)
        try:
            self._thread.start()
        except RuntimeError:
            sentinel.stop()
            raise

    def _report(self, sentinel: Sentinel, before: threading.Thread | None) -> None:
        sentinel.arrive()
        if before is not None:
            before.join()  # It may still be telling what was found before a fork.
        more = True
        while more and threading.current_thread() is self._thread:
            try:
                more = self._report_next(sentinel)
            except BaseException as error:  # A program's on_stall may raise whatever it likes.
                report.log_failure(error)

    def _report_next(self, sentinel: Sentinel) -> bool:
        """Wait for it; whether there was one."""
        event = sentinel.next()
        if sentinel.lost > self._lost:
            self._lost = sentinel.lost
            report.logger.warning("%s", LOST)
        if event is None:
            return False
        if event["turn"]:
            self._look_at_turn(event)
        elif event["over"]:
            self._ended(event)
        else:
            self._began(sentinel, event)
        return True

    def _began(self, sentinel: Sentinel, event: dict[str, Any]) -> None:
        debugged = debugger.attached(self._ident)
        looked = None if debugged else self._look(sentinel, event)
        # From here on it is told here, or nowhere, if the sentinel has not come first.
        told = event["told"] or not sentinel.claim(event["stall"])
        if looked is None:
            self._current = None
            return
        stall, seen = looked
        stall = replace(stall, told=told, loop=self._number)
        # Nothing is known of it: it was over before it could be looked at. Or a debugger halts it.
        # Of C code in a loop that is not ours there is nothing to know.
        known = stall.stack or stall.callback or event["sampled"] or (seen and self._outside)
        if not known or stack.in_debugger(stall.stack):
            self._current = None
            return
        self._current, self._loud = ledger.began(stall, event["at"])
        self._tell(self._current, self._loud and not stall.told)

    def _ended(self, event: dict[str, Any]) -> None:
        if self._current is None:
            return
        duration = event["at"] - event["began"]
        found = stack.samples_of(event["found"])
        samples = tuple(each for each in found if not stack.in_debugger(each.stack))
        # What came to a breakpoint later has blocked until then.
        duration -= sum(each.seconds for each in found) - sum(each.seconds for each in samples)
        stall = replace(
            self._current,
            over=True,
            duration=duration,
            samples=samples or (Sample(self._current.stack, 1, duration),),
            cpu=event["cpu"],
            queued=event["queued"],
        )
        self._current = None
        self._told.append(turns.Told(event["began"], duration, stack.root_of(stall.stack)))
        self._tell(ledger.ended(stall), self._loud or stall.told)

    def _look_at_turn(self, event: dict[str, Any]) -> None:
        known = turns.known(self._tally, event)
        if not event["over"]:
            if debugger.attached(self._ident, whole=True):
                return
            stall = self._without_told(turns.stall(event, known), event["began"])
            self._turn, self._turn_loud = ledger.began(stall, event["at"])
            self._tell(self._turn, self._turn_loud)
        elif self._turn is not None:
            stall = self._without_told(turns.ended(self._turn, event, known), event["began"])
            self._turn = None
            self._tell(ledger.ended(stall), self._turn_loud)

    def _without_told(self, turn: Stall, turn_began: float) -> Stall:
        """A turn that leaves to its callbacks what these have told by themselves."""
        told = [each for each in self._told if each.began >= turn_began]
        return replace(
            turn,
            loop=self._number,
            apart=min(sum(each.duration for each in told), turn.duration),
            samples=turns.samples(turn.top, told),
        )

    def _tell(self, stall: Stall, loud: bool) -> None:
        if loud:
            report.log(stall)
        for output in self._outputs:
            attempt(output, output.tell, stall)
        if self._on_stall is not None:
            self._on_stall(stall)

    def _look(self, sentinel: Sentinel, event: dict[str, Any]) -> tuple[Stall, bool]:
        """What it is; whether it went on all the time that it was looked at."""
        # All that is Python's to say first: the callback may go on at any moment.
        loop = self._loop()
        places = stack.from_lines(event["stack"])
        if not event["sampled"]:
            places = stack.of_thread(self._ident)
        task = stack.task_of(loop) if loop is not None else None
        callback = stack.callback_name(self._pulse.running()) if not places else None
        del loop
        culprit, thread = culprit_of(event)
        duration = time.monotonic() - event["began"]
        seen = sentinel.goes_on(event["beat"])
        if not seen:
            task, callback, duration = None, None, event["at"] - event["began"]
            places = places if event["sampled"] else ()
        place = stack.own_line(places)
        cause, detail = classify.classify(event)
        if cause not in (Cause.GIL, Cause.LOCK):
            culprit = thread = None
        source = stack.source(place)
        stall = Stall(
            duration=duration,
            cause=cause,
            place=place,
            detail=detail,
            source=source,
            hint=hints.hint(source, cause, detail),
            stack=places,
            samples=(Sample(places, 1, duration),),
            task=task,
            chain=stack.chain_of(places),
            callback=callback,
            culprit=culprit,
            culprit_thread=thread,
            cpu=event["cpu"],
            queued=event["queued"],
        )
        return stall, seen


def culprit_of(event: dict[str, Any]) -> tuple[Place | None, str | None]:
    """Whom the loop may wait for: who is on a CPU; else the only other thread that works."""
    if event["call"] != "futex":
        return None, None
    if event["busy"]:
        thread = stack.thread_with(event["busy"])
        places = stack.from_lines(event["busy_stack"])
        if thread is not None and not places and not event["told"]:
            places = stack.of_thread(thread.ident)
        return stack.own_line(places), thread.name if thread is not None else None
    working = []
    for thread in threading.enumerate():
        if thread.native_id not in (event["thread"], threading.get_native_id()):
            place = stack.own_line(stack.of_thread(thread.ident))
            if place is not None and not place.file.startswith(stack.library()):
                working.append((place, thread.name))
    return working[0] if len(working) == 1 else (None, None)


def current_directory() -> str:
    try:
        return os.path.join(os.getcwd(), "")
    except OSError:  # It was removed.
        return ""


active: set[Watcher] = set()
#: Of watchers, for the stalls that they tell.
numbers = itertools.count(1)
ledger = Ledger()
#: Whether somebody was told that there is no watch to be had.
refused = False
#: For what all watchers share: `active`, the signal, the collector's callback. Re-entrant: the
#: collector may close a forgotten loop at any moment.
shared = threading.RLock()


def claim(watcher: Watcher, signal: int | None) -> None:
    """Take part in what watchers share. Raises what sampler.acquire() does, having done nothing."""
    with shared:
        if signal is not None:
            sampler.acquire(signal)
        active.add(watcher)
        if collection not in gc.callbacks:
            gc.callbacks.append(collection)


def give_back(watcher: Watcher, signal: int | None) -> None:
    """Take part no more: the last one leaves all as it was."""
    with shared:
        active.discard(watcher)
        if not active and collection in gc.callbacks:
            gc.callbacks.remove(collection)
        if signal is not None:
            sampler.release()


def unwatched(error: Exception) -> None:
    """Say once that a watch cannot be had, and why: the loop runs all the same."""
    global refused
    if not refused:
        refused = True
        report.logger.warning("the loop is not watched: %s", error)


def at_exit() -> None:
    for watcher in list(active):
        watcher.stop()
    summary = ledger.summary()
    if summary is not None:
        report.logger.warning("%s", summary)


def gone(thread: int | None) -> None:
    """Wait until the kernel has forgotten a thread that has ended: who forks may count threads."""
    deadline = time.monotonic() + 0.1
    while os.path.exists(f"/proc/self/task/{thread}") and time.monotonic() < deadline:
        time.sleep(0.0002)


def pause_all() -> None:
    """Before a fork. Python warns of a fork with threads from 3.12 on, and rightly so."""
    for watcher in list(active):
        watcher.pause()


def resume_all() -> None:
    for watcher in list(active):
        watcher.resume()


def abandon_parents_watch() -> None:
    global ledger, shared
    shared = threading.RLock()  # A thread that is not here may hold the parent's.
    ledger = Ledger()
    for watcher in list(active):
        watcher.abandon()
    active.clear()
    if collection in gc.callbacks:
        gc.callbacks.remove(collection)
    sampler.abandon()


atexit.register(at_exit)
os.register_at_fork(
    before=pause_all, after_in_parent=resume_all, after_in_child=abandon_parents_watch
)
