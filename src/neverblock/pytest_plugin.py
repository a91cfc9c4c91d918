"""pytest's plugin: fails the test that blocked its event loop, and shows the line.

- Without ``--neverblock-stall``, the ini option or a marker it does nothing and imports nothing.
- Tests run on the loops that they would run on without it.
- A stall is put down to the phase of the test that it happened in: set-up, call or tear-down.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from neverblock.stalled_tests import Phase

OPTION: Final = "neverblock_stall"
MARKER: Final = "no_stall"
#: Of a marker that names none, where there is no option either: seconds.
THRESHOLD: Final = 0.1
UNITS: Final = {"": 1.0, "s": 1.0, "ms": 1e-3}

UNWATCHED: Final = (
    "the test ran on a loop whose stalls are not seen: it is of trio, or has a watch of its own, "
    "or its package was imported before the plugin began, as uvloop by a conftest.py where only "
    "markers ask; then give --neverblock-stall as well"
)


class UnwatchedLoopWarning(pytest.PytestWarning):
    """A test ran on a loop whose stalls cannot be seen."""


#: Of a session: whether it was looked what its option says.
ASKED: Final = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "fail a test that blocks its event loop for longer than this (50ms, 0.1s)"
    parser.getgroup("neverblock").addoption(
        "--neverblock-stall", dest=OPTION, metavar="TIME", help=text
    )
    parser.addini(OPTION, text, default="")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(threshold=0.1): fail the test if it blocks its event loop for longer, in "
        "seconds, or as a text like '50ms'; None: it may.",
    )
    # A conftest.py has named the plugin: that it is loaded before those is past.
    if ASKED not in config.stash:
        begin(config, config.getoption(OPTION, None))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # Before a conftest.py imports loops that can only be watched when they are imported later.
    begin(early_config, getattr(early_config.known_args_namespace, OPTION))


def begin(config: pytest.Config, given: str | None) -> None:
    """Watch every test where the command line or pytest's configuration asks for it."""
    config.stash[ASKED] = True
    if text := given or config.getini(OPTION):
        start(config, seconds(text, f"--{OPTION.replace('_', '-')}"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker(MARKER)]
    for item in marked:
        threshold_of(item, None)  # A wrong one is told before anything runs.
    if marked:
        start(config, None)


def start(config: pytest.Config, threshold: float | None) -> None:
    """Watch from now on, if that is possible and not done yet. Raises UsageError."""
    if config.pluginmanager.has_plugin(Stalls.__name__):
        return
    if not sys.platform.startswith("linux"):
        warnings.warn(
            UnwatchedLoopWarning("neverblock watches loops on Linux only: no stall is seen"),
            stacklevel=2,
        )
        return
    wrap()
    config.pluginmanager.register(Stalls(threshold), Stalls.__name__)


def seconds(value: object, where: str) -> float:
    """Seconds, of a number or a text. Raises UsageError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|)\s*", str(value))
    number = float(found[1]) * UNITS[found[2]] if found else 0.0
    if number < 0.001:
        raise pytest.UsageError(f"{where}: write a time of 1ms or more, like 50ms, not {value!r}")
    return number


def threshold_of(item: pytest.Item, default: float | None) -> float | None:
    """What a test may block its loop for; None: for ever. Raises UsageError."""
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return default
    try:
        [value] = marker.args or [*marker.kwargs.values()] or [default or THRESHOLD]
    except ValueError:
        raise pytest.UsageError(f"{item.nodeid}: {MARKER} takes one time, like 0.05") from None
    return None if value is None else seconds(value, f"{item.nodeid}: {MARKER}")


def wrap() -> None:
    """Let the hooks of a session stand around each phase of a test. Raises UsageError."""
    try:
        around = pytest.hookimpl(wrapper=True, tryfirst=True)
    except TypeError:  # Who does not ask for it shall not notice that.
        raise pytest.UsageError(
            "to fail tests that block their loop neverblock needs pluggy 1.2 or newer; "
            "pip install --upgrade pluggy"
        ) from None
    for hook in (
        Stalls.pytest_runtest_setup,
        Stalls.pytest_runtest_call,
        Stalls.pytest_runtest_teardown,
    ):
        around(hook)


class Stalls:
    """The hooks of a session that watches."""

    def __init__(self, threshold: float | None) -> None:
        from neverblock.stalled_tests import Session

        self.threshold = threshold
        self.session = Session()

    def pytest_report_header(self) -> str | None:
        if self.threshold is None:
            return None
        return f"neverblock: no test may block its event loop for {self.threshold * 1e3:g} ms"

    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        return (yield from self.watched(item, "setup"))

    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        return (yield from self.watched(item, "call"))

    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        return (yield from self.watched(item, "teardown"))

    def pytest_unconfigure(self) -> None:
        self.session.close()

    def watched(self, item: pytest.Item, when: str) -> Generator[None, Any, Any]:
        threshold = threshold_of(item, self.threshold)
        if threshold is None:
            return (yield)
        phase = self.session.begin_phase(threshold)
        try:
            result = yield
        except BaseException:
            self.session.end_phase()
            if text := phase.told():
                item.add_report_section(when, "stalls", text)
            raise
        self.session.end_phase()
        if text := phase.told():
            pytest.fail(text, pytrace=False)
        if when == "call":
            self.unwatched(item, phase)
        return result

    def unwatched(self, item: pytest.Item, phase: Phase) -> None:
        """Say so where a loop ran whose stalls were not seen: a marker promises more."""
        function: Any = getattr(item, "obj", None)
        if phase.watched or not inspect.iscoroutinefunction(inspect.unwrap(function)):
            return
        if item.get_closest_marker(MARKER):
            pytest.fail(f"{MARKER} cannot be kept: {UNWATCHED}", pytrace=False)
        warnings.warn(UnwatchedLoopWarning(f"{item.nodeid}: {UNWATCHED}"), stacklevel=2)
