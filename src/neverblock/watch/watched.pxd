# What a sentinel knows of the loop that it watches.
#
# - What the loop's thread writes (pulse, sleep) is read by word, without a lock.
# - What others read or write as well (the bells, the mail) is under the bells' mutex, which nobody
#   holds while waiting for the GIL; the rest is the sentinel's own.

from neverblock.multiplexers.base cimport Sleep
from neverblock.watch.bell cimport Bells, rest
from neverblock.watch.kernel cimport Usage
from neverblock.watch.mail cimport Event, Mail
from neverblock.watch.outside cimport View
from neverblock.watch.shares cimport Baseline
from neverblock.watch.tally cimport Tallies
from neverblock.watch.text cimport NAME
from neverblock.watch.walker cimport PyThreadState, Stack

cdef extern from * nogil:
    """
    #define nb_peek(place) __atomic_load_n(place, __ATOMIC_RELAXED)
    #define nb_want(place) __atomic_store_n(place, 1, __ATOMIC_RELAXED)
    #define nb_flag(place) __atomic_load_n(place, __ATOMIC_SEQ_CST)
    """
    unsigned long long nb_peek(unsigned long long *place) noexcept
    void nb_want(int *place) noexcept
    int nb_flag(int *place) noexcept

cdef enum:
    PREFIXES = 4096
    PATIENCE = 30           # milliseconds for a thread to answer

cdef struct Turn:
    double began            # the one that is looked at, by its beginning; 0: none
    bint told
    int thread
    double stalled          # seconds of it in callbacks that are reported by themselves
    Baseline loop           # once it has lasted for a while
    Baseline reporter       # the reporter's, which may have no CPU while it has the GIL

cdef struct Lasting:        # a stall that was told
    bint open               # and is not over
    unsigned long long beat
    double began
    double counted          # up to when its stacks are
    int thread
    Baseline before
    bint untold             # nobody tells of it yet
    int wanting             # who waits for the GIL at every look since these two were measured
    Baseline loop
    Baseline reporter
    Stack stack             # the first one since then; empty: none was taken yet

cdef struct Watched:
    # the loop's
    unsigned long long *turns
    unsigned long long *callbacks
    unsigned long long *others
    unsigned long long *asked       # a double, of which only a copy is looked at; 0: now
    unsigned long long *before      # callbacks and others, when it was
    int *wanted                     # whether the engine is to time the callbacks of this turn
    Sleep *sleep
    int thread              # 0: it does not run
    View *view              # NULL: the loop is ours, and says when it sleeps
    PyThreadState *python   # of the thread; only to be walked
    # how to look
    double threshold, turn_threshold, step
    bint samples            # whether stacks may be taken without the GIL
    int output              # where to write without the GIL; -1: nowhere
    bint json               # as what
    char[PREFIXES] library
    char[PREFIXES] outermost
    char[NAME] directory    # what paths are shown without
    # shared
    Bells bells
    Mail mail
    bint called             # the reporter is to come though there is no event
    unsigned long long reported     # the stall that the reporter was the last to come to
    unsigned long long written      # the one that the sentinel was the last to tell of itself
    int reporter
    int listening           # the reporter waits for an event
    int watching            # the thread of the sentinel
    # the sentinel's
    Event found
    Stack stack
    Tallies tallies
    unsigned long long stalls
    int *collecting         # the thread that runs the garbage collector; 0: none
    unsigned long *gil      # where a thread waits that waits for the GIL; 0: not seen yet
    int coming              # the reporter has been woken, and waits for nothing but the GIL
    Turn turn
    Lasting lasting
    double late             # by a stop of the process, at the last look
    Usage own
    int unmeasured          # looks since `own` was read


cdef inline unsigned long long beat_of(Watched *self) noexcept nogil:
    return nb_peek(self.turns) + nb_peek(self.callbacks) + nb_peek(self.others)


cdef inline double asked_of(Watched *self) noexcept nogil:
    cdef unsigned long long bits = nb_peek(self.asked)
    return (<double *> &bits)[0]


cdef inline bint goes_on(Watched *self, unsigned long long beat) noexcept nogil:
    return (
        nb_flag(&self.thread) and not nb_flag(&self.sleep.asleep) and beat_of(self) == beat)


# The same for who may look no longer once it has to quit.
cdef inline bint stuck(Watched *self, unsigned long long beat) noexcept nogil:
    return not nb_flag(&self.bells.quit) and goes_on(self, beat)


cdef inline void pause(Watched *self, double seconds) noexcept nogil:
    rest(&self.bells, seconds)
