# A turn may be long though none of its callbacks is.
#
# - It is told once it has lasted for `turn_threshold`, less what was not its callbacks' doing:
#   stops of the process, a machine without a free CPU, callbacks that are reported by themselves.

from neverblock.engine.clock cimport now
from neverblock.watch.kernel cimport Usage, halted
from neverblock.watch.mail cimport Event, new_event, post
from neverblock.watch.scheduling cimport unscheduled
from neverblock.watch.shares cimport in_all, measure, used_since
from neverblock.watch.watched cimport Watched, asked_of, beat_of, nb_peek, nb_want


# The present callback began at `callback`. Returns in how many seconds to look again.
cdef inline double look_at_turn(Watched *self, double callback, double moment) noexcept nogil:
    cdef double began = asked_of(self)
    cdef double age
    if began != self.turn.began:
        end_turn(self, moment)
        self.turn.began = began
        self.turn.stalled = self.late if began + self.late <= moment else 0
        self.turn.loop.since = 0
    age = moment - began - self.turn.stalled
    if began == 0 or self.turn.told:
        return self.step
    if age >= self.turn_threshold / 4 and self.turn.loop.since == 0:
        nb_want(self.wanted)
        self.turn.thread = self.thread
        measure(&self.turn.loop, self.thread)
        measure(&self.turn.reporter, self.reporter)
        # We may have had no CPU for long, nor may it.
        self.turn.stalled += max(age - self.turn_threshold / 2, 0)
        return max(min(self.turn_threshold - age, self.step), self.step / 2)
    if age >= self.turn_threshold:
        age -= used_since(&self.turn.reporter, self.reporter).queued
        age -= unscheduled(self, &self.turn.loop, moment - age, moment)
        if halted(self.thread):
            self.turn.stalled = moment - began
            return self.step
    if age < self.turn_threshold:
        return max(self.turn_threshold - age, 0.002)
    # Else it is the present one that takes the time, and is reported by itself.
    if callback - began - self.turn.stalled >= self.turn_threshold / 2:
        self.turn.told = True
        post_turn(self, moment, False)
    return self.step


cdef inline void end_turn(Watched *self, double moment) noexcept nogil:
    if self.turn.told:
        post_turn(self, moment, True)
    self.turn.told = False
    self.turn.began = 0


cdef inline void post_turn(Watched *self, double moment, bint over) noexcept nogil:
    cdef Event *event = new_event(&self.mail, over)
    cdef double began = self.turn.began
    cdef Usage used
    if event is NULL:
        return
    used = used_since(&self.turn.loop, self.turn.thread)
    event.turn = True
    event.stall = self.stalls
    event.beat = beat_of(self)
    event.began = began
    event.at = moment
    event.thread = self.thread
    event.callbacks = nb_peek(self.callbacks) + nb_peek(self.others) - nb_peek(self.before)
    event.used.cpu = in_all(&self.turn.loop, used.cpu, began, moment)
    event.used.queued = in_all(&self.turn.loop, used.queued, began, moment)
    post(&self.mail, event, &self.bells)
