"""Choosing a backend by its name, and being told why not."""

import pickle
import selectors
import sys

import pytest

from neverblock import multiplexers
from neverblock.errors import DescriptorLimitError


def test_available_tells_the_reason() -> None:
    available = multiplexers.available()
    assert list(available) == list(multiplexers.REGISTRY)
    assert available["select"] is available["poll"] is None
    if sys.platform == "linux":
        assert available["epoll"] is None
        assert available["kqueue"] == "not on Linux (needs BSD or macOS)"


def test_default_is_the_best_there_is() -> None:
    name, reason = multiplexers.default()
    available = multiplexers.available()
    better = list(available)[: list(available).index(name)]
    assert available[name] is None
    why = ", ".join(f"{other} {available[other]}" for other in better)
    assert reason == (why or "the best there is")
    if sys.platform == "linux":
        assert (name, reason) == ("epoll", "the best there is")


def test_create(backend: str) -> None:
    with multiplexers.create(backend) as created:
        assert type(created).__name__.lower() == backend.replace("_", "")
        assert isinstance(created, multiplexers.Multiplexer)
        assert isinstance(created, selectors.BaseSelector)


def test_classes_are_found_by_name(backend: str) -> None:
    with multiplexers.create(backend) as created:
        assert getattr(multiplexers, type(created).__name__) is type(created)


def test_unknown_class() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Devpoll'"):
        multiplexers.Devpoll  # noqa: B018


@pytest.mark.parametrize("name", ["devpoll", ""])
def test_what_cannot_be_used(name: str) -> None:
    with pytest.raises(ValueError, match=rf'backend "{name}": unknown; use one of .*poll, select'):
        multiplexers.create(name)


def test_the_contract_itself_does_nothing() -> None:
    contract = multiplexers.Multiplexer()
    for call in (
        lambda: contract._add(0, 1),
        lambda: contract._change(0, 1),
        lambda: contract._drop(0),
        lambda: contract._wait(0, 0),
    ):
        with pytest.raises(NotImplementedError):
            call()
    assert set(contract.statistics().values()) == {0}
    contract._release()


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(DescriptorLimitError("select", 2000, 1024)))
    assert isinstance(error, ValueError)
    assert (error.backend, error.descriptor, error.limit) == ("select", 2000, 1024)
    assert "2000" in str(error)
