# What the sentinel found, on its way to the reporter: a queue of bounded length.
#
# - An event is its maker's until it is posted, then the queue's, then its taker's, who discards it.

from libc.stdlib cimport calloc, free

from neverblock.watch.bell cimport (
    Bells, pthread_cond_signal, pthread_mutex_lock, pthread_mutex_unlock,
)
from neverblock.watch.kernel cimport Call, SYS_futex, Usage
from neverblock.watch.tally cimport STACKS, Tallies, Tally
from neverblock.watch.walker cimport Stack

cdef enum:
    MOST_QUEUED = 64
    MOST_ENDS = 2           # of a callback and of a turn: what began to be told has an end
    GIL_SIZE = 256          # bytes; what lies that near to a wait for the GIL is one too

cdef struct Event:
    Event *next
    bint over               # False: it goes on
    bint turn               # of many callbacks, not one that does not end
    unsigned long long callbacks    # of the turn
    bint told               # the sentinel has written the first lines itself, or does
    bint collecting         # the loop's thread runs the garbage collector
    unsigned long long stall        # its number, from 1
    unsigned long long beat
    double began, at        # CLOCK_MONOTONIC, seconds
    double since            # from when on it was measured
    Usage used              # by the loop's thread since then
    Call call
    int thread              # the loop's
    int busy                # another thread that is on a CPU while the loop waits for a futex
    bint sampled            # there is a stack; the callback's part of it may be empty
    Stack stack
    Stack busy_stack
    Tally *found            # where it is over: the stacks of it; an owned array, or NULL
    int found_count

cdef struct Mail:
    Event *first
    Event *last
    int queued
    unsigned long long lost


# NULL: there is no memory, or too much is waiting; it is counted as lost.
cdef inline Event *new_event(Mail *self, bint over) noexcept nogil:
    cdef Event *event = NULL
    if self.queued < MOST_QUEUED + (MOST_ENDS if over else 0):
        event = <Event *> calloc(1, sizeof(Event))
    if event is NULL:
        self.lost += 1
    else:
        event.over = over
    return event


cdef inline void discard(Event *event) noexcept nogil:
    free(event.found)
    free(event)


# The stacks of a stall that is over go with the event.
cdef inline void enclose(Event *event, const Tallies *tallies) noexcept nogil:
    cdef int i
    if tallies.used == 0:
        return
    event.found = <Tally *> calloc(tallies.used + 1, sizeof(Tally))
    if event.found is NULL:
        return
    for i in range(tallies.used):
        event.found[i] = tallies.all[i]
    event.found_count = tallies.used
    if tallies.all[STACKS].count:
        event.found[event.found_count] = tallies.all[STACKS]
        event.found_count += 1


cdef inline void post(Mail *self, Event *event, Bells *bells) noexcept nogil:
    pthread_mutex_lock(&bells.mutex)
    if self.first is NULL:
        self.first = event
    else:
        self.last.next = event
    self.last = event
    self.queued += 1
    pthread_cond_signal(&bells.post)
    pthread_mutex_unlock(&bells.mutex)


# Under the mutex. NULL: there is none.
cdef inline Event *take(Mail *self) noexcept nogil:
    cdef Event *event = self.first
    if event is not NULL:
        self.first = event.next
        self.queued -= 1
    return event


# Whether that is a wait for the GIL; `gil` is where threads wait for it; 0: not known.
cdef inline bint at_gil(const Call *call, unsigned long gil) noexcept nogil:
    cdef unsigned long where = call.arguments[0]
    return (
        call.number == SYS_futex and gil != 0
        and (where - gil if where > gil else gil - where) < GIL_SIZE)
