"""Which turns are timed callback by callback, and since when their work waits.

- Two turns in a row, after a gap of 1 to 253 at random: one turn in 64 on average, and in step
  with nothing. The first marks when what it queues was queued; the second knows for all that it
  runs since when it waits. So call_soon() itself neither reads a clock nor counts.
- The ring is first in, first out: a place in it is enough to tell who queued what stands there.
- A mark tells when the callback began that queued: a wait is never told shorter than it was.
- Loop's thread, GIL held.
"""

cimport cython


@cython.final
@cython.no_gc
cdef class Sample:
    """The plan of one loop."""

    def __cinit__(self):
        self.seed = 2463534242
        self.plan(0)

    cdef void plan(self, unsigned long long turn) noexcept:
        """Choose the turn that is timed next, and with it the one after."""
        # Marsaglia's xorshift32.
        self.seed ^= self.seed << 13
        self.seed ^= self.seed >> 17
        self.seed ^= self.seed << 5
        self.next = turn + 2 + self.seed % 253

    cdef void mark(self, Py_ssize_t end, double time) noexcept:
        cdef int i
        if self.count == MARKS:
            # Half of them do: what two callbacks queued is taken for the earlier one's.
            for i in range(MARKS // 2):
                self.marks[i].end = self.marks[2 * i + 1].end
                self.marks[i].time = self.marks[2 * i].time
            self.count = MARKS // 2
        self.marks[self.count].end = end
        self.marks[self.count].time = time
        self.count += 1

    cdef double since(self, Py_ssize_t place, double answered) noexcept:
        """When the work at that place was queued; 0: not known. Ask for ascending places."""
        if place >= self.woken:
            return answered
        if place >= self.carried:
            return self.woken_at
        while self.reached < self.count and self.marks[self.reached].end <= place:
            self.reached += 1
        return self.marks[self.reached].time if self.reached < self.count else 0
