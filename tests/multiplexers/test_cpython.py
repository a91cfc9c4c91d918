"""CPython's own tests of ``selectors``, unedited, on ours."""

import unittest
from collections.abc import Iterator

import pytest

from neverblock import multiplexers

test_selectors = pytest.importorskip(
    "test.test_selectors", reason="this Python comes without its test suite"
)

#: By our backend: the tests of the class that it stands in for, or is most like.
CASES: dict[str, type[unittest.TestCase]] = {
    "epoll": test_selectors.EpollSelectorTestCase,
    "io_uring": test_selectors.PollSelectorTestCase,
    "kqueue": test_selectors.KqueueSelectorTestCase,
    "poll": test_selectors.PollSelectorTestCase,
    "select": test_selectors.SelectSelectorTestCase,
}
LEFT_OUT = {
    "test_timeout": "asserts how long a wait took, which a busy machine decides",
    "test_empty_select_timeout": "asserts how long a wait took",
    "test_modify_unregister": "patches the class that the standard library's selector wraps",
}


def cpython_tests() -> Iterator[tuple[str, str]]:
    for name, obstacle in multiplexers.available().items():
        if obstacle is None:
            for test in unittest.TestLoader().getTestCaseNames(CASES[name]):
                if test not in LEFT_OUT:
                    yield name, test


@pytest.mark.parametrize(("backend", "name"), list(cpython_tests()))
def test_cpython(backend: str, name: str) -> None:
    selector = getattr(multiplexers, multiplexers.REGISTRY[backend][0])
    type("Case", (CASES[backend],), {"SELECTOR": selector})(name).debug()
