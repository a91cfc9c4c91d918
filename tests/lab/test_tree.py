"""What the lab reads of a server's processes."""

from __future__ import annotations

import subprocess
import sys

from neverblock.lab.tree import Tree
from tests.servers.proc import eventually

WORKS_IN_A_THREAD = """
import threading, time

def work():
    while time.thread_time() < 0.05:
        pass
    print("worked", flush=True)
    input()

thread = threading.Thread(target=work)
thread.start()
thread.join()
print("ended", flush=True)
input()
"""


def test_what_a_thread_used_is_counted_when_it_has_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WORKS_IN_A_THREAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        before = Tree(process.pid).counts()
        print(file=process.stdin)
        process.stdout.readline()
        # join() returns before the system has done with it.
        eventually(lambda: Tree(process.pid).counts().threads == 1)
        after = Tree(process.pid).counts()
        print(file=process.stdin)
    assert (before.threads, after.threads) == (2, 1)
    assert after.cpu >= before.cpu >= 0.05


def test_a_process_that_has_ended_counts_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert Tree(process.pid).counts().cpu == 0
