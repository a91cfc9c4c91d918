"""``--on-stall shed``: a server whose loop stalls accepts nothing until it has recovered."""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neverblock.watch import Cause, Overload, Stall
from neverblock.watch.overload import Span, judged
from tests.servers.serving import exactly, neverblock, served

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the watch needs Linux")

APP = """\
import sys, time

async def handle(stream):
    async for chunk in stream:
        if chunk == b"b":
            time.sleep(0.3)
        print("handled", chunk.decode(), file=sys.stderr, flush=True)
        await stream.send(chunk)
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_nothing_is_accepted_until_the_loop_has_recovered(tmp_path: Path, workers: str) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP)
    options = ("--workers", workers, "--stall-threshold", "0.1", "--on-stall", "shed")
    with served(f"{app}:handle", *options) as server, server.connect() as early:
        number = 0
        while "the loop is overloaded" not in server.log:
            number += 1
            early.sendall(b"b")
            assert exactly(early, 1) == b"b"
            early.sendall(str(number).encode())
            exactly(early, len(str(number)))
            server.wait_until_logged(f"handled {number}\n")
        clients = [server.connect() for _ in range(20)]
        for client in clients:
            client.sendall(b"l")
        early.sendall(b"e")  # one that was accepted is served on
        assert exactly(early, 1) == b"e"
        server.wait_until_logged("the loop has recovered")
        for client in clients:
            assert exactly(client, 1) == b"l"
            client.close()
        early.sendall(b"e")
        assert exactly(early, 1) == b"e"
        early.close()
        assert server.stop() == 0
    before, _, after = server.log.partition("the loop has recovered")
    assert "handled l" not in before.partition("the loop is overloaded")[2]
    assert after.count("handled l") == 20


@pytest.mark.parametrize(
    ("stalls", "overloaded"),
    [
        ([], False),
        ([(0.0, 0.2), (1.0, 1.2), (19.0, 19.2)], False),
        ([(11.0, 11.1), (15.0, 15.1), (19.0, 19.1)], True),
        ([(18.2, 19.4)], True),
        ([(10.0, 18.9)], False),
        ([(10.0, 19.1)], True),
        ([(19.2, None)], False),
        ([(18.9, None)], True),
        ([(18.0, None, True), (18.5, 18.6), (19.0, 19.1)], True),
        ([(14.0, 14.8, True), (14.1, 14.3), (14.5, 14.9)], False),
        ([(18.2, 18.9, True), (18.3, 18.8)], False),
        ([(14.0, 14.8, True), (14.8, 14.9), (15.0, 15.1)], True),
    ],
)
def test_what_is_too_much(stalls: list[tuple[Any, ...]], overloaded: bool) -> None:
    assert bool(judged([Span(*each) for each in stalls], 20.0)) is overloaded


def test_a_long_turn_with_a_slow_callback_in_it_is_one_stall() -> None:
    turn = Stall(0.2, Cause.TURN, None, callbacks=9)
    callback = Stall(0.1, Cause.SLEEPING, None)
    overload = Overload()
    loop = asyncio.new_event_loop()
    overload.begin(loop)
    for _ in range(2):
        for stall in (turn, callback, replace(callback, over=True), replace(turn, over=True)):
            overload.tell(stall)
        loop.run_until_complete(asyncio.sleep(0))
        assert overload.reason == ""
    brief = replace(callback, duration=0.0)
    overload.tell(brief)
    overload.tell(replace(brief, over=True))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert overload.reason == "3 stalls within 10 s"


def test_stalls_may_be_noted_while_it_is_looked_whether_the_loop_has_recovered() -> None:
    overload, looked = Overload(), threading.Event()
    stall = Stall(duration=0.01, cause=Cause.SLEEPING, place=None, over=True)

    def note() -> None:
        while not looked.is_set():
            overload.tell(stall)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=note)
    thread.start()
    try:
        for _ in range(3000):
            overload._look_again()
    finally:
        looked.set()
        thread.join()
        sys.setswitchinterval(before)


def test_it_is_refused_where_nobody_watches() -> None:
    done = neverblock("serve", "x.py:handle", "--on-stall", "shed", "--stall-threshold", "off")
    assert done.returncode == 2
    assert "--on-stall: nobody watches; give a --stall-threshold" in done.stderr
