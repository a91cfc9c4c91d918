"""What the engine tells a watch: plain stores, no clock read.

- Written by the loop's thread alone, GIL held. A watch reads it from a thread without the
  GIL: each field is a word, and it is the change of their sum that tells.
- Whether the loop sleeps is the multiplexer's to say: it knows before the GIL is back.
- What runs is borrowed from the turn, which takes it back before it lets go of it: it is
  looked at under the GIL alone.
- It may outlive its loop: a watch holds on to it while its thread looks at it.
"""

cimport cython

from neverblock.multiplexers.base cimport Multiplexer


@cython.final
@cython.no_gc
cdef class Pulse:
    """The counts of one loop."""

    def __cinit__(self, Multiplexer multiplexer):
        self.multiplexer = multiplexer

    def running(self):
        """The handle that runs, or the endpoint that is delivered to; None: neither."""
        return None if self.current is NULL else <object> self.current
