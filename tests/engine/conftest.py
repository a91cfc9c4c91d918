"""Fixtures of the engine's tests: `kind`, `loop`, `run`, `trouble`, and the guards around each.

Every test runs under three guards: a hang ends in a traceback of the place it hangs in, a
descriptor left open fails the test, and so does anything told to the loop's exception handler
that the test did not take.
"""

from .fixtures import *  # noqa: F403
