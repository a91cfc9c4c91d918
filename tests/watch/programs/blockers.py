"""Blocks its loop in many ways, one after the other, and prints what the watch says of each.

Each function blocks for half a second or so on the line that is marked with its name. Where the
system had no CPU to spare, which is what the watch then says, it is tried again.
"""

import asyncio
import fcntl
import gc
import hashlib
import importlib
import json
import os
import pickle
import queue
import random
import re
import select
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import neverblock
from neverblock.watch import Cause, Stall

SECONDS = 0.5
#: Where the system is short of CPU: how often to try again.
TRIES = 8

BLOCKERS: dict[str, Callable[[], object]] = {}
#: What a blocker works on, where making it would block as well.
PREPARED: dict[str, Callable[[], object]] = {
    "sort": lambda: [random.random() for _ in range(2_000)] * 1_500,
    "pickle_dumps": lambda: [float(number) for number in range(3_000_000)],
    "collect": lambda: [[index] for index in range(2_500_000)],
}
prepared: dict[str, Any] = {}
directory = tempfile.TemporaryDirectory()
here = Path(directory.name)


def blocker(function: Callable[[], object]) -> Callable[[], object]:
    BLOCKERS[function.__name__] = function
    return function


def later(action: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(SECONDS, action)
    timer.start()
    return timer


def explode() -> object:
    return re.match(r"(a+)+$", "a" * 25 + "b")


@blocker
def time_sleep() -> None:
    time.sleep(SECONDS)  # time_sleep


@blocker
def regex() -> None:
    re.match(r"(a+)+$", "a" * 25 + "b")  # regex


@blocker
def sort() -> None:
    sorted(prepared["sort"])  # sort


@blocker
def total() -> None:
    sum(range(60_000_000))  # total


@blocker
def json_dumps() -> None:
    value = [{"number": 1.5, "text": "x" * 10}] * 600_000
    json.dumps(value)  # json_dumps


@blocker
def pickle_dumps() -> None:
    pickle.dumps(prepared["pickle_dumps"], protocol=0)  # pickle_dumps


@blocker
def long_number() -> None:
    exponent = 1_500_000
    pow(7, exponent)  # long_number


@blocker
def python_loop() -> None:
    all(n >= 0 for n in range(12_000_000))  # python_loop


@blocker
def recursion() -> None:
    deeper: Callable[[int], int] = lambda n: n and deeper(n - 1) + deeper(n - 1)  # recursion  # noqa: E731
    deeper(22)


@blocker
def compress() -> None:
    data = random.randbytes(1_000_000) * 25
    zlib.compress(data, 6)  # compress


@blocker
def derive() -> None:
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 1_000_000)  # derive


@blocker
def open_fifo() -> None:
    path = here / "fifo-open"
    os.mkfifo(path)
    other = later(lambda: path.open("wb").close())
    path.open("rb").close()  # open_fifo
    other.join()
    path.unlink()


@blocker
def read_pipe() -> None:
    reader, writer = os.pipe()
    other = later(lambda: os.write(writer, b"!"))
    os.read(reader, 1)  # read_pipe
    other.join()
    os.close(reader)
    os.close(writer)


@blocker
def receive() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        other = later(lambda: theirs.send(b"!"))
        ours.recv(1)  # receive
        other.join()


@blocker
def select_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        select.select([ours], [], [], SECONDS)  # select_socket


@blocker
def select_nothing() -> None:
    select.select([], [], [], SECONDS)  # select_nothing


@blocker
def accept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = later(lambda: socket.create_connection(listener.getsockname()).close())
        listener.accept()[0].close()  # accept
        other.join()


@blocker
def http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                time.sleep(SECONDS)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nslow")

        answering = threading.Thread(target=answer)
        answering.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        urllib.request.urlopen(url).read()  # http
        answering.join()


@blocker
def write_pipe() -> None:
    theirs, ours = os.pipe()
    timer = later(lambda: os.read(theirs, 1 << 20))
    os.write(ours, bytes(1 << 17))  # write_pipe
    timer.join()
    os.close(ours)
    os.close(theirs)


@blocker
def future_result() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, SECONDS).result()  # future_result


@blocker
def file_lock() -> None:
    path = here / "lock"
    with path.open("w") as one, path.open("w") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        other = later(lambda: fcntl.flock(one, fcntl.LOCK_UN))
        fcntl.flock(two, fcntl.LOCK_EX)  # file_lock
        other.join()


@blocker
def lock() -> None:
    held = threading.Lock()

    def hold() -> None:
        with held:
            taken.set()
            time.sleep(SECONDS)

    taken = threading.Event()
    other = threading.Thread(target=hold)
    other.start()
    taken.wait()
    with held:  # lock
        pass
    other.join()


@blocker
def event() -> None:
    threading.Event().wait(SECONDS)  # event


@blocker
def queue_get() -> None:
    try:
        queue.Queue[int]().get(timeout=SECONDS)  # queue_get
    except queue.Empty:
        pass


@blocker
def join_thread() -> None:
    other = threading.Thread(target=time.sleep, args=(SECONDS,))
    other.start()
    other.join()  # join_thread


@blocker
def collect() -> None:
    gc.collect()  # collect


@blocker
def sqlite_busy() -> None:
    path = here / "busy.db"
    one, two = sqlite3.connect(path, timeout=0.6), sqlite3.connect(path)
    two.execute("begin exclusive")
    try:
        one.execute("create table t (x)")  # sqlite_busy
    except sqlite3.OperationalError:
        pass
    one.close()
    two.close()


@blocker
def run_program() -> None:
    subprocess.run(["sleep", str(SECONDS)], check=True)  # run_program


@blocker
def run_shell() -> None:
    os.system(f"sleep {SECONDS}")  # run_shell


@blocker
def slow_import() -> None:
    name = f"slow_{time.monotonic_ns()}"
    (here / f"{name}.py").write_text(f"import time\ntime.sleep({SECONDS})\n")
    sys.path.insert(0, str(here))
    importlib.invalidate_caches()
    importlib.import_module(name)  # no mark: the line is the module's
    sys.path.remove(str(here))


@blocker
def hogged() -> None:
    other = threading.Thread(target=explode, name="hog")
    (other.start(), time.sleep(0.001))  # hogged
    other.join()


async def main(name: str) -> None:
    loop = asyncio.get_running_loop()
    for left in reversed(range(TRIES)):
        reports.clear()
        done = loop.create_future()
        loop.call_soon(lambda done=done: done.set_result(BLOCKERS[name]()))
        await done
        while not (reports and reports[-1].over):
            await asyncio.sleep(0.01)
        if reports[0].cause is not Cause.NOT_SCHEDULED or not left:
            break
    print(json.dumps({"name": name, "found": [told(report) for report in reports]}), flush=True)


def told(stall: Stall) -> dict[str, Any]:
    return {
        "cause": stall.cause.value,
        "detail": stall.detail,
        "file": stall.place and stall.place.file,
        "line": stall.place and stall.place.line,
        "culprit": stall.culprit and stall.culprit.function,
        "over": stall.over,
        "duration": stall.duration,
        "hint": stall.hint,
        "told": stall.told,
    }


reports: list[Stall] = []

if __name__ == "__main__":
    watch = neverblock.Watch(threshold=0.1, on_stall=reports.append)
    for each in sys.argv[1:] or list(BLOCKERS):
        if each in PREPARED:
            prepared[each] = PREPARED[each]()
        neverblock.run(main(each), watch=watch)
        prepared.clear()
