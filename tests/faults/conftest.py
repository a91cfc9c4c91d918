"""Fixtures of the tests of faults: those of the engine's."""

from tests.engine.fixtures import *  # noqa: F403
