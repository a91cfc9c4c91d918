"""What the engine tells of its work: counts that are plain stores, and how long turns take.

- Written by the loop's thread alone, GIL held; but for `wanted`, which a watch sets. A watch
  reads it from a thread without the GIL: each field is a word, and it is the change of their
  sum that tells.
- The clock is read where the kernel is asked, and nowhere else: a turn's length is the time
  from an answer to the next question. Turns that asked nothing belong to the one before. A
  callback may take a turn itself: then what is left of its own turn counts as one more.
- Whether the loop sleeps is the multiplexer's to say: it knows before the GIL is back.
- What runs is borrowed from the turn, which takes it back before it lets go of it: it is
  looked at under the GIL alone.
- It may outlive its loop: a watch holds on to it while its thread looks at it.
"""

cimport cython
from libc.stdlib cimport free

from neverblock.engine.buckets cimport BUCKETS, Buckets, put_seconds
from neverblock.engine.tally cimport Tally
from neverblock.multiplexers.base cimport Multiplexer

from neverblock.engine import histogram as histograms


cdef object histogram(Buckets *buckets, tuple bounds, double unit):
    return histograms.Histogram(
        bounds, tuple([buckets.counts[i] for i in range(BUCKETS)]),
        buckets.sum * unit, buckets.most * unit)


@cython.final
@cython.no_gc
cdef class Pulse:
    """The counts of one loop."""

    def __cinit__(self, Multiplexer multiplexer):
        self.multiplexer = multiplexer

    def __dealloc__(self):
        free(self.kept)

    def running(self):
        """The handle that runs, or the endpoint that is delivered to; None: neither."""
        return None if self.current is NULL else <object> self.current

    cdef int end_turn(self, double moment) except -1:
        """The kernel is asked again, or the loop leaves."""
        if self.began:
            put_seconds(&self.turn_lengths, moment - self.began)
            if self.wanted:
                self.wanted = 0
                if self.tally is not None:
                    self.tally.end(
                        self.began, moment - self.began,
                        self.callbacks + self.others - self.before)
            self.began = 0
        return 0

    cdef void go_on(self, double moment, PyObject *current) noexcept:
        """A turn within one is over: the callback that took it goes on, and what comes after it."""
        self.began = moment
        self.before = self.callbacks + self.others - (current is not NULL)
        self.current = current

    cdef void keep(self, void *memory) noexcept:
        """The loop's thread may be on its way out of a sleep, and about to tell so to a watch that
        another thread has just stopped. When the next one ends, it is past that: it entered it."""
        free(self.kept)
        self.kept = memory

    def keep_tally(self):
        """From now on there is a watch: returns the Tally of turns that it asks about."""
        if self.tally is None:
            self.tally = Tally()
        return self.tally

    def histograms(self):
        """All four, by their names in Loop.statistics()."""
        return {
            "turn_seconds": histogram(&self.turn_lengths, histograms.SECONDS, 1e-9),
            "callback_seconds": histogram(&self.callback_lengths, histograms.SECONDS, 1e-9),
            "lag_seconds": histogram(&self.lags, histograms.SECONDS, 1e-9),
            "ready_lengths": histogram(&self.ready_lengths, histograms.NUMBERS, 1),
        }
