"""Samples of stacks at random moments, by the million: nothing crashes, nothing is lost.

    python -m bench.samples [--count N] [--way process_vm_readv|pipe]

The main thread and two others work (sampled.py); they are sampled in turns, as fast as they answer.
Meanwhile the program has signals of its own, SIGUSR1 and an interval timer's SIGALRM, and counts
them: each SIGUSR1 is sent when the one before it was heard, each alarm sets the next. At the end
it tells of how many samples the innermost function is one that the program has.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from collections import Counter
from types import CodeType, FunctionType

from bench import sampled
from neverblock.watch import sampler

#: Samples of one thread, then it is another's turn.
TURN = 250
#: A thread that starts and ends is asked as well, once in so many turns.
SHORT_LIVED = 4
LEAST_KNOWN = 0.98


class Signals:
    """Those that are the program's own, and how many of each came."""

    def __init__(self) -> None:
        self.heard = threading.Event()
        self.users = self.sent = self.alarms = 0
        self.over = False

    def install(self) -> None:
        signal.signal(signal.SIGUSR1, self.on_user)
        signal.signal(signal.SIGALRM, self.on_alarm)
        signal.setitimer(signal.ITIMER_REAL, 0.003)

    def on_user(self, *_: object) -> None:
        self.users += 1
        self.heard.set()

    def on_alarm(self, *_: object) -> None:
        self.alarms += 1
        if not self.over:
            signal.setitimer(signal.ITIMER_REAL, 0.003)

    def send(self) -> None:
        while not self.over:
            self.heard.clear()
            self.sent += 1
            os.kill(os.getpid(), signal.SIGUSR1)
            if not self.heard.wait(60):
                return

    def uninstall(self) -> list[str]:
        """What was lost."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        lost = []
        if self.users != self.sent:
            lost.append(f"{self.sent - self.users} of {self.sent} SIGUSR1")
        if self.alarms < 2:
            lost.append("the chain of alarms")
        return lost


class Sampling(threading.Thread):
    """Takes the samples; the main thread works until it is done."""

    def __init__(self, count: int) -> None:
        super().__init__(name="sampling")
        self.left = count
        self.main = threading.main_thread()
        self.others = [
            threading.Thread(target=sampled.work, args=(self.is_alive,), name=f"work-{number}")
            for number in range(2)
        ]
        self.found: Counter[str] = Counter()
        self.turns = 0

    def run(self) -> None:
        for other in self.others:
            other.start()
        while self.left > 0:
            for thread in (self.main, *self.others):
                self.take(thread, min(TURN, self.left))
            self.turns += 1
            if self.turns % SHORT_LIVED == 0 and self.left > 0:
                brief = threading.Thread(target=sampled.generating)
                brief.start()
                self.take(brief, min(20, self.left))
                brief.join()

    def take(self, thread: threading.Thread, count: int) -> None:
        if count > 0 and thread.native_id is not None:
            self.found.update(sampler.count_samples(thread.native_id, count))
            self.left -= count


def functions() -> set[str]:
    """The names of all code there is, as the sampler cuts them."""
    names: set[str] = set()
    left: list[CodeType] = [
        value.__code__ for value in gc.get_objects() if isinstance(value, FunctionType)
    ]
    left += [frame.f_code for frame in sys._current_frames().values()]
    while left:
        code = left.pop()
        names.add(code.co_qualname.encode()[:63].decode(errors="replace"))
        left += [each for each in code.co_consts if isinstance(each, CodeType)]
    return names


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.samples", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="samples to take")
    parser.add_argument("--way", default="", help="how memory is read: the best way, or pipe")
    options = parser.parse_args()
    faulthandler.enable()
    sampler.acquire(0, options.way)
    signals = Signals()
    signals.install()
    sender = threading.Thread(target=signals.send, name="signals", daemon=True)
    sender.start()
    began = time.monotonic()
    sampling = Sampling(options.count)
    sampling.start()
    sampled.work(sampling.is_alive)
    sampling.join()
    for other in sampling.others:
        other.join()
    signals.over = True
    sender.join()
    while signals.users < signals.sent and time.monotonic() - began < 60:
        time.sleep(0.01)
    took = time.monotonic() - began
    lost = signals.uninstall()
    sampler.release()
    return tell(sampling.found, took, signals, lost)


def tell(found: Counter[str], took: float, signals: Signals, lost: list[str]) -> int:
    count = found.total()
    empty = found.pop("", 0)
    names = functions()
    unknown = Counter({name: times for name, times in found.items() if name not in names})
    known = (count - empty - unknown.total()) / max(count - empty, 1)
    print(f"Python {sys.version.split()[0]}: {count:,} samples in {took:.1f} s, no crash")
    print(f"without a stack: {empty:,}; innermost function one of the program's: {known:.4%}")
    print(f"signals of the program's own: SIGUSR1 {signals.users:,}, alarms {signals.alarms:,}")
    print("most often:", ", ".join(f"{name} {times}" for name, times in found.most_common(8)))
    if unknown:
        print("not known:", ", ".join(f"{name!r} {n}" for name, n in unknown.most_common(8)))
    for each in lost:
        print("lost:", each)
    return int(bool(lost) or known < LEAST_KNOWN)


if __name__ == "__main__":
    sys.exit(main())
