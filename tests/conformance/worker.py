"""Runs one test module of CPython's against one loop and tells the parent each result as it comes.

Started by run.py with one argument, a JSON object: `module`, `loop`, `backend`, `fd` (where the
results go, one JSON object a line), `start` (how many tests to pass over: those that a worker
before this one has run), `only` (ids, or none for all), `keywords`, `timeout` (seconds for one
test). A test that takes longer ends the process, with every thread's stack on standard error; a
thread of the interpreter's that needs no GIL watches that, so it holds for a hang in C too.
"""
# ruff: noqa: N802, N815 - the names are unittest's

import faulthandler
import json
import os
import sys
import threading
import time
import traceback
import unittest
from collections.abc import Iterator
from typing import Any, TextIO

from entrance import Entrance, open_entrance

WORSE = ("passed", "skipped", "failed")

#: Seconds for a test that has failed already, and may wait for the thread that failed in it.
LEFT = 5.0


class Reporter(unittest.TestResult):
    """Sends what a test came to. A test's last word is its worst one."""

    def __init__(self, out: TextIO, entrance: Entrance, timeout: float) -> None:
        super().__init__()
        self.out, self.entrance, self.timeout = out, entrance, timeout
        self.running = False
        self.shared = 0  # loops without a selector that were made for several tests
        self.forget()
        sys.unraisablehook = self.unraisable
        threading.excepthook = self.unraisable

    def send(self, event: str, **fields: Any) -> None:
        self.out.write(json.dumps({"event": event, **fields}) + "\n")
        self.out.flush()

    def forget(self) -> None:
        self.outcome, self.reason, self.why = "passed", "", ""
        self.uses_before, self.free_before = self.entrance.uses, self.entrance.free
        self.started = time.monotonic()

    def book(self, test: Any, outcome: str, reason: str, why: str = "") -> None:
        if not isinstance(test, unittest.TestCase):  # a class's or a module's set-up or clean-up
            self.send("group", id=test.id(), outcome=outcome, reason=reason, why=why)
        elif WORSE.index(outcome) > WORSE.index(self.outcome):
            self.outcome, self.reason, self.why = outcome, reason, why

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.shared += self.entrance.free - self.free_before
        self.forget()
        self.running = True
        faulthandler.dump_traceback_later(self.timeout, exit=True)
        self.send("start", id=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        # 3.12.0 and 3.12.1 stop a test skipped by decorator without having started it.
        faulthandler.cancel_dump_traceback_later()
        self.running = False
        self.send(
            "end",
            id=test.id(),
            outcome=self.outcome,
            reason=self.reason,
            why=self.why,
            uses=self.entrance.uses - self.uses_before,
            free=self.entrance.free - self.free_before + self.shared,
            seconds=round(time.monotonic() - self.started, 3),
        )
        self.forget()
        super().stopTest(test)

    def addError(self, test: Any, err: Any) -> None:
        (reason, *_) = "".join(traceback.format_exception_only(*err[:2])).splitlines()
        self.book(test, "failed", reason, "".join(traceback.format_exception(*err)))

    addFailure = addError

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self.addError(test, err)

    def addSkip(self, test: Any, reason: str) -> None:
        self.book(test, "skipped", " ".join(reason.split()))

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        pass

    def addUnexpectedSuccess(self, test: Any) -> None:
        self.book(test, "failed", "passes, though CPython marks it as an expected failure")

    def unraisable(self, args: Any) -> None:
        """An exception nobody could catch (a destructor's, a thread's) fails the test at hand."""
        lines = traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)
        where = getattr(args, "object", None) or getattr(args, "thread", None)
        # From 3.14 on a destructor is named in the message alone.
        message = getattr(args, "err_msg", None) or ""
        how = f"in {where!r}" if where else message.removeprefix("Exception ignored ")
        reason = f"{args.exc_type.__name__} ignored {how}"
        if WORSE.index(self.outcome) < WORSE.index("failed"):
            self.outcome, self.reason, self.why = "failed", reason, "".join(lines)
            if self.running:
                faulthandler.dump_traceback_later(min(LEFT, self.timeout), exit=True)


def each_test(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from each_test(item)
        else:
            yield item


def main() -> None:
    order = json.loads(sys.argv[1])
    os.set_inheritable(order["fd"], False)
    entrance = open_entrance(order["loop"], order["backend"])
    with os.fdopen(order["fd"], "w") as out:
        reporter = Reporter(out, entrance, order["timeout"])
        try:
            suite = unittest.defaultTestLoader.loadTestsFromName(order["module"])
        except unittest.SkipTest as skip:
            reporter.send("group", id="module", outcome="skipped", reason=str(skip), why="")
            reporter.send("list", ids=[])
            reporter.send("done")
            return
        only, keywords = set(order["only"]), order["keywords"]
        tests = [
            test
            for test in each_test(suite)
            if (not only or test.id() in only)
            and (not keywords or any(word in test.id() for word in keywords))
        ]
        reporter.send("list", ids=[test.id() for test in tests])
        unittest.TestSuite(tests[order["start"] :]).run(reporter)
        reporter.send("done")


if __name__ == "__main__":
    main()
