# What a watch sees of a loop that is not ours. The rules are in outside.pyx.

from neverblock.engine.pulse cimport Pulse
from neverblock.watch.kernel cimport Call

cdef struct View:
    int bell                    # the eventfd(2) that the loop listens to; -1: the loop is ours
    bint rung
    unsigned long long beat     # at which it was rung
    double at                   # and when, CLOCK_MONOTONIC, seconds
    Call home                   # the system call in which the loop waits, as far as it is known

cdef class Outside:
    cdef View view
    cdef readonly Pulse pulse

# Whether a thread is in the call in which its loop waits.
cdef bint at_home(View *view, Call *call) noexcept nogil
# Whether a loop could wait in that call.
cdef bint may_be_home(Call *call) noexcept nogil
# Ask the loop for a beat, once at each beat.
cdef void ask(View *view, unsigned long long beat) noexcept nogil
