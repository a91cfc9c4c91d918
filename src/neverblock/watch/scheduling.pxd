# What the system keeps from a loop is not its callbacks' doing: stops, and CPUs that are not free.

from neverblock.watch.kernel cimport Usage, usage_of
from neverblock.watch.sampler cimport own_thread
from neverblock.watch.shares cimport Baseline, in_all, starves, used_since
from neverblock.watch.watched cimport Watched, pause

cdef enum:
    UNMEASURED = 16         # looks between two readings of what the sentinel itself was kept from


# For how long we were late because the process was stopped, as by SIGSTOP: the loop was, too.
cdef inline double stopped(Watched *self, double late) noexcept nogil:
    cdef Usage own
    cdef double queued
    cdef bint much = late > max(self.threshold / 8, 0.002)
    self.unmeasured += 1
    if not much and self.unmeasured < UNMEASURED:
        return 0
    self.unmeasured = 0
    own = self.own
    usage_of(own_thread(), &own)
    queued = own.queued - self.own.queued
    self.own = own
    return late if much and queued < late / 2 else 0


# For how long of the time the loop's thread was ready to run, and got no CPU, seconds.
cdef inline double unscheduled(
        Watched *self, const Baseline *before, double began, double moment) noexcept nogil:
    cdef Usage used = used_since(before, self.thread)
    cdef double lasted = moment - before.since
    if used.cpu + used.queued < lasted / 2 and starves(before, self.thread, &used):
        pause(self, 0.01)
        if starves(before, self.thread, &used):
            used.queued = lasted - used.cpu
        else:       # it has just ended
            used = used_since(before, self.thread)
    return in_all(before, used.queued, began, moment)
