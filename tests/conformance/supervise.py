"""Runs worker processes and books each test: a hang or a crash costs its test alone."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

WORKER = Path(__file__).with_name("worker.py")
TRIES = 16  # workers for a module: so many of its tests, less one, may end theirs
LOG_TAIL = 6000


@dataclass(frozen=True)
class Job:
    """One test module on one backend of one loop."""

    module: str
    loop: str
    backend: str
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    keywords: tuple[str, ...] = ()
    timeout: float = 60.0  # seconds for one test
    debug: bool = False  # asyncio's debug mode


@dataclass
class Result:
    outcome: str  # "passed", "skipped" or "failed"
    reason: str = ""  # one line
    why: str = ""  # the traceback, or the end of what the worker wrote
    uses: int = 0  # loops under test made while it ran
    free: int = 0  # those of them that were given no selector, and so have the job's backend
    seconds: float = 0.0


@dataclass
class Report:
    """What a job came to."""

    results: dict[str, Result] = field(default_factory=dict)
    not_run: str = ""  # the module's own word for why it has no test here
    skipped_groups: dict[str, str] = field(default_factory=dict)  # class or module: reason
    seconds: float = 0.0


@dataclass
class Book:
    """What one worker has said so far."""

    ids: list[str] = field(default_factory=list)
    running: str | None = None
    done: bool = False


def run_job(job: Job, settings: Settings) -> Report:
    """Runs every test of the job, in as many workers as it takes."""
    report, began, start = Report(), time.monotonic(), 0
    for _ in range(TRIES):
        with tempfile.TemporaryFile() as log:
            book, status = run_worker(job, settings, start, report, log)
            tail = read_tail(log)
        if book.running is not None:
            report.results[book.running] = Result("failed", died(status, tail), tail, uses=1)
            start = book.ids.index(book.running) + 1
            continue
        if not book.done or status:
            when = "at its exit" if book.done else "outside a test"
            report.results[f"{job.module} ({when})"] = Result("failed", died(status, tail), tail)
        break
    for test in book.ids:
        if test not in report.results:
            report.results[test] = never_ran(test, report)
    report.seconds = time.monotonic() - began
    return report


def run_worker(
    job: Job, settings: Settings, start: int, report: Report, log: IO[bytes]
) -> tuple[Book, int]:
    """Starts a worker at test number `start` and listens to it until it ends; gives its status."""
    reader, writer = os.pipe()
    order = {
        "module": job.module,
        "loop": job.loop,
        "backend": job.backend,
        "only": job.only,
        "fd": writer,
        "start": start,
        "keywords": settings.keywords,
        "timeout": settings.timeout,
    }
    environment = {**os.environ, "PYTHONASYNCIODEBUG": "1" if settings.debug else ""}
    worker = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(WORKER), json.dumps(order)],
        pass_fds=[writer],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    os.close(writer)
    try:
        book = listen(reader, worker, report, settings.timeout)
    finally:
        os.close(reader)
        if worker.poll() is None:
            give_time(worker)
        kill_group(worker)
    return book, worker.wait()


def listen(reader: int, worker: subprocess.Popen[bytes], report: Report, timeout: float) -> Book:
    book, rest, heard = Book(), b"", time.monotonic()
    while True:
        # A child that a test left behind may hold the pipe open: look at the worker as well.
        ready, _, _ = select.select([reader], [], [], 0.5)
        if ready:
            heard = time.monotonic()
            data = os.read(reader, 1 << 16)
            if not data:
                return book
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                take(json.loads(line), book, report)
        elif worker.poll() is not None or time.monotonic() - heard > 2 * timeout:
            return book


def take(message: dict[str, Any], book: Book, report: Report) -> None:
    match message["event"]:
        case "list":
            book.ids = message["ids"]
        case "start":
            book.running = message["id"]
        case "end":
            report.results[message["id"]] = Result(
                message["outcome"],
                message["reason"],
                message["why"],
                message["uses"],
                message["free"],
                message["seconds"],
            )
            book.running = None
        case "group" if message["outcome"] == "failed":
            report.results[message["id"]] = Result("failed", message["reason"], message["why"])
        case "group" if message["id"] == "module":
            report.not_run = message["reason"]
        case "group":  # "setUpClass (package.module.Class)"
            report.skipped_groups[message["id"].partition("(")[2].rstrip(")")] = message["reason"]
        case "done":
            book.done = True


def never_ran(test: str, report: Report) -> Result:
    """A test that was listed and did not run: its class or module was skipped, or it is lost."""
    for group, why in report.skipped_groups.items():
        if test.startswith(group + "."):
            return Result("skipped", why)
    return Result("failed", "listed, but it never ran")


def died(status: int, tail: str) -> str:
    if status < 0:
        return f"the worker died of {signal.Signals(-status).name}"
    if "Timeout (" in tail:
        return "the test hangs"
    return f"the worker ended with status {status}"


def give_time(worker: subprocess.Popen[bytes]) -> None:
    try:
        worker.wait(10)
    except subprocess.TimeoutExpired:
        pass


def kill_group(worker: subprocess.Popen[bytes]) -> None:
    """Ends the worker and the children its tests left: they share the worker's session."""
    try:
        os.killpg(worker.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def read_tail(log: IO[bytes]) -> str:
    end = log.seek(0, os.SEEK_END)
    log.seek(max(0, end - LOG_TAIL))
    return log.read().decode(errors="replace")
