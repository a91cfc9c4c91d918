# The turn of a loop. The rules are in engine.pyx.

from neverblock.engine.driver cimport Driver
from neverblock.engine.pulse cimport Pulse
from neverblock.engine.ready cimport Handle, Ready, TimerHandle, Timers
from neverblock.engine.sample cimport Sample
from neverblock.engine.sources cimport Sources
from neverblock.engine.wakeup cimport Wakeup
from neverblock.multiplexers.base cimport Multiplexer


cdef class Engine:
    cdef Ready ready
    cdef Timers timers
    cdef Multiplexer multiplexer
    cdef Sources sources
    cdef Driver driver
    cdef dict files                 # descriptor -> the file object add_reader knew it by

    cdef public object _thread_id
    cdef public bint _stopping
    cdef public bint _closed
    cdef public bint _debug
    cdef bint abandoned             # by a fork: it is the parent's
    cdef bint own_clock             # time() was replaced, by a subclass or on the loop

    cdef int signals                # where the C signal handler's bytes can be read
    cdef Wakeup wakeup
    cdef bint asleep                # waiting, or about to: work from outside must wake us
    cdef bint woken                 # and somebody has

    cdef int in_vain                # how often in a row the kernel had nothing to tell
    cdef Py_ssize_t unasked         # callbacks since the kernel was asked
    cdef double asked               # when, on the coarse clock, while questions are in vain
    cdef readonly Pulse _pulse      # turns, callbacks, how long they take
    cdef Sample sample

    cdef inline bint in_turn(self) noexcept:
        return self._thread_id is not None

    cdef TimerHandle schedule_at(
        self, double when, object callback, tuple args, object context, str caller)
    cdef int look_at_clock(self) except -1
    cdef int check_closed(self) except -1
    cdef Handle watch(
        self, object file, int mask, object callback, tuple args, object context)
    cdef object unwatch(self, object file, int mask)
    cdef int wake(self) except -1
    cdef int hear_signals(self) except -1
    cdef int turn(self) except -1
    cdef int rest(self) except -1
    cdef int ask(self) except -1
    cdef double patience(self, double moment) except? -2
    cdef int queue_due_timers(self, bint asked) except -1
    cdef int run_ready(self) except -1
    cdef int run_timed(self, Py_ssize_t left, bint recorded) except -1
    cdef int run_item(self, object item) except -1
    cdef double waiting_since(self, object item, Py_ssize_t place) except? -1
    cdef int run_other(self, object item) except -1
    cdef int report(self, Handle handle) except -1
