"""Puts one event loop in the place of asyncio's own, in this process alone.

CPython's tests get a loop in two ways, and both lead here afterwards: the default policy
(`new_event_loop`, `asyncio.run`, `Runner`, `IsolatedAsyncioTestCase`; it survives the suite's own
`set_event_loop_policy(None)`), and `asyncio.SelectorEventLoop`, with or without a selector. Nothing
else is replaced, and no file of CPython's is touched. Call `open_entrance` before a test module is
imported: some of them keep what they find in `asyncio`.
"""

import asyncio
import importlib
import os
import selectors
import unittest
from asyncio import unix_events
from collections.abc import Callable
from typing import Any

SELECTORS = {"epoll": "EpollSelector", "poll": "PollSelector", "select": "SelectSelector"}
BACKENDS = {name: backend for backend, name in SELECTORS.items()}
#: Ours, for which the standard library has no selector.
MORE = ("io_uring",)
ANY_BACKEND = "own"  # for a loop that does not let the caller choose

Maker = Callable[[selectors.BaseSelector | None], asyncio.AbstractEventLoop]


class Entrance(type):
    """The class of what stands for `asyncio.SelectorEventLoop`: calling that makes the loop."""

    make: Maker
    made: type
    uses = 0  # loops made so far: a test that makes none says nothing about the loop
    free = 0  # those of them that were given no selector: a test without one suits any backend

    def __call__(cls, selector: selectors.BaseSelector | None = None) -> Any:
        loop = cls.make(selector)
        cls.uses += 1
        cls.free += selector is None
        return loop

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.made)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.made)


def open_entrance(loop: str, backend: str) -> Entrance:
    """Lets `loop` in (`asyncio`, `neverblock`, MODULE or MODULE:FACTORY) and counts its uses."""
    if loop == "asyncio":
        make = asyncio_maker(backend)
    elif loop == "neverblock":
        make = neverblock_maker(backend)
    else:
        make = other_maker(loop)
    probe = make(None)
    made = type(probe)
    probe.close()
    # It extends the class it stands for: a loop under test may look up methods of that by name.
    real = asyncio.SelectorEventLoop
    body = {"make": staticmethod(make), "made": made}
    entrance = Entrance(real.__name__, (real,), body)
    for namespace in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(namespace, name):
                setattr(namespace, name, entrance)
    unix_events._UnixDefaultEventLoopPolicy._loop_factory = entrance
    return entrance


def asyncio_maker(backend: str) -> Maker:
    real = asyncio.SelectorEventLoop
    selector_class = getattr(selectors, SELECTORS[backend])

    def make(selector: selectors.BaseSelector | None) -> asyncio.AbstractEventLoop:
        return real(selector if selector is not None else selector_class())

    return make


def neverblock_maker(backend: str) -> Maker:
    os.environ["NEVERBLOCK_BACKEND"] = backend
    import neverblock

    def make(selector: selectors.BaseSelector | None) -> asyncio.AbstractEventLoop:
        if selector is None:
            loop = neverblock.new_event_loop()
            wanted = backend
        else:
            selector.close()
            wanted = BACKENDS[type(selector).__name__]
            loop = neverblock.Loop(backend=wanted)
        if loop.backend != wanted:
            raise RuntimeError(f"asked for backend {wanted}, got {loop.backend}")
        return loop

    return make


def other_maker(spec: str) -> Maker:
    module, _, attribute = spec.partition(":")
    factory = getattr(importlib.import_module(module), attribute or "new_event_loop")

    def make(selector: selectors.BaseSelector | None) -> asyncio.AbstractEventLoop:
        if selector is not None:
            selector.close()
            if type(selector).__name__ != SELECTORS["epoll"]:
                raise unittest.SkipTest(f"{spec} cannot be given a selector")
        return factory()

    return make
