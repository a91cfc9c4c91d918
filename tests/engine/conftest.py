"""Fixtures of the engine's tests: `kind`, `loop`, `run`, `trouble`, and the guards around each.

A test fails, too, when anything is told to the loop's exception handler that it did not take.
"""

from .fixtures import *  # noqa: F403
