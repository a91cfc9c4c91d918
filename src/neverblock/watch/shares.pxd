# How much of a time a thread was on a CPU, or ready for one and had none.
#
# - Reading proc(5) is most of what a watch costs, so it is done only once something lasts: of what
#   was before, the same shares are taken to hold.
# - What cannot be read counts as nothing.

from neverblock.engine.clock cimport now
from neverblock.watch.kernel cimport Usage, starving, usage_of

cdef struct Baseline:
    double since            # CLOCK_MONOTONIC, seconds; 0: not measured yet
    bint known
    Usage used              # by the thread until then


cdef inline void measure(Baseline *self, int thread) noexcept nogil:
    self.since = now()
    self.known = usage_of(thread, &self.used)


cdef inline Usage used_since(const Baseline *self, int thread) noexcept nogil:
    cdef Usage used
    if not self.known or not usage_of(thread, &used):
        used.cpu = used.queued = 0
        return used
    used.cpu = max(used.cpu - self.used.cpu, 0)
    used.queued = max(used.queued - self.used.queued, 0)
    return used


# From what was measured up to `moment` to what it is in all that began then.
cdef inline double in_all(
        const Baseline *self, double measured, double began, double moment) noexcept nogil:
    if moment <= self.since:
        return 0
    return min(measured / (moment - self.since), 1) * (moment - began)


# Of a thread that may be ready to run at this moment: the kernel counts a wait when it is over.
cdef inline bint starves(const Baseline *self, int thread, const Usage *used) noexcept nogil:
    cdef Usage until
    until.cpu = self.used.cpu + used.cpu
    return self.known and starving(thread, &until)
