"""What is sampled: work that makes, leaves and unwinds frames in every way there is.

Each function does a little of one kind and returns; none does I/O, none waits.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import json
import pickle
import random
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

VALUE = {"name": "wält", "numbers": list(range(40)), "nested": [{"a": [1.5, None, True]}] * 5}
COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))


class Slow(json.JSONEncoder):
    """Encodes in Python: the C encoder takes no indent."""

    def default(self, value: object) -> object:
        return repr(value)


class Awaited:
    """Steps out of a coroutine as often as it is told to."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __await__(self) -> Iterator[int]:
        yield from range(self.steps)


class Node:
    """In a ring, so that it is the collector that finds it; with Python code when it goes."""

    def __init__(self, others: list[Node]) -> None:
        self.others = others

    def __del__(self) -> None:
        gone.append(len(self.others))


gone: list[int] = []
started: deque[threading.Thread] = deque()


def encoding() -> None:
    json.loads(json.dumps(VALUE, cls=Slow, indent=1))


def pickling() -> None:
    pickle.loads(pickle.dumps(VALUE))
    pickle._loads(pickle._dumps(VALUE))  # the same in Python


def count_down(number: int) -> Iterator[int]:
    if number:
        yield number
        yield from count_down(number - 1)


def generating() -> None:
    sum(count_down(30))
    sum(one * two for one in range(12) for two in count_down(3))


def comprehending() -> None:
    squares = [number * number for number in range(50)]
    {number: {digit + digit for digit in str(number)} for number in squares}


def fail(depth: int) -> None:
    try:
        if depth == 0:
            raise ValueError(depth)
        fail(depth - 1)
    finally:
        depth += 1


def raising() -> None:
    for depth in range(6):
        try:
            fail(depth)
        except ValueError as error:
            try:
                raise KeyError(depth) from error
            except KeyError:
                pass


def deeper(depth: int) -> int:
    return depth and 1 + deeper(depth - 1)


def recursing() -> None:
    deeper(300)
    try:
        endless()
    except RecursionError:
        pass


def endless() -> None:
    endless()


def by_remainder(number: int) -> int:
    return number % 7


def compare(one: ctypes._Pointer[ctypes.c_int], two: ctypes._Pointer[ctypes.c_int]) -> int:
    return one[0] - two[0]


def calling_back() -> None:
    sorted(range(60), key=by_remainder)
    functools.reduce(lambda one, two: one ^ two, map(by_remainder, range(60)))
    numbers = (ctypes.c_int * 12)(*random.sample(range(100), 12))
    ctypes.CDLL(None).qsort(numbers, len(numbers), ctypes.sizeof(ctypes.c_int), COMPARE(compare))


def doubled(found: re.Match[str]) -> str:
    return found[0] * 2


def matching() -> None:
    re.sub(r"(\w+)-(\d+)", doubled, "alpha-1 beta-22 gamma-333" * 4)
    re.match(r"(a+)+$", "a" * 12 + "b")


def collecting() -> None:
    ring: list[Node] = []
    ring.extend(Node(ring) for _ in range(5))
    del ring
    gc.collect(0)
    gone.clear()


async def countdown(number: int) -> AsyncIterator[int]:
    for left in range(number):
        await Awaited(1)
        yield left


async def nested(depth: int) -> int:
    if depth:
        return 1 + await nested(depth - 1)
    return sum([left async for left in countdown(4)])


def awaiting() -> None:
    coroutine = nested(10)
    try:
        while True:
            coroutine.send(None)
    except StopIteration:
        pass


async def tasks() -> None:
    async with asyncio.TaskGroup() as group:
        for depth in range(4):
            group.create_task(sleepy(depth))


async def sleepy(depth: int) -> int:
    await asyncio.sleep(0)
    return 1 + await sleepy(depth - 1) if depth else 0


def switching() -> None:
    with asyncio.Runner() as runner:
        runner.run(tasks())


def threading_() -> None:
    """Starts threads that end by themselves; those of the last time are over by now."""
    while len(started) > 4:
        started.popleft().join()
    for _ in range(2):
        thread = threading.Thread(target=generating)
        thread.start()
        started.append(thread)


KINDS: list[Callable[[], None]] = [
    encoding,
    pickling,
    generating,
    comprehending,
    raising,
    recursing,
    calling_back,
    matching,
    collecting,
    awaiting,
    switching,
    threading_,
]


def work(goes_on: Callable[[], bool]) -> None:
    """All kinds, over and over."""
    while goes_on():
        for kind in KINDS:
            kind()
