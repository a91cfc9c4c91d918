# A stall, from when it is known to its end.
#
# - The stack is taken when it is found, and again while it lasts: an event has what was found then,
#   and the one of its end how often each stack was found since.
# - Who comes to it first tells of it: the reporter, or the sentinel, once the reporter does not get
#   the GIL for that. The GIL may be taken at any time while it lasts, and by anybody.
# - The sentinel may have to quit meanwhile, for a fork: the stall stays open, and see_end() goes on
#   with it when the sentinel is started again.

from neverblock.engine.clock cimport now
from neverblock.multiplexers.base cimport nb_set_flag
from neverblock.watch.kernel cimport (
    RUNNING, UNKNOWN, Call, SYS_futex, Threads, Usage, all_threads, any_starving, busiest,
    call_of,
)
from neverblock.watch.mail cimport Event, at_gil, discard, enclose, new_event, post
from neverblock.watch.outside cimport at_home
from neverblock.watch.sampler cimport own_thread, sample
from neverblock.watch.shares cimport Baseline, in_all, measure, used_since
from neverblock.watch.tally cimport count, forget, prolong
from neverblock.watch.walker cimport Stack, copy, same
from neverblock.watch.watched cimport (
    PATIENCE, Lasting, Watched, goes_on, nb_flag, nb_peek, pause, stuck,
)
from neverblock.watch.words cimport tell

# Who waits for the GIL.
cdef enum:
    CALLED = 1              # the reporter, to take an event out, and for nothing before that
    REPORTER = 2
    LOOP = 4
    UNSURE = 8              # the reporter has waited, and is ready to run by now


cdef inline void report(
        Watched *self, unsigned long long beat, double began, double moment, double waited,
        const Baseline *before) noexcept nogil:
    cdef int thread = self.thread       # which may leave meanwhile
    cdef Event *event = of_callback(self, beat, began, False)
    if event is NULL:
        return
    event.at = moment
    examine(self, event, before, thread, waited)
    if not stuck(self, beat):
        discard(event)
        return
    self.stalls += 1
    event.stall = self.stalls
    self.found = event[0]       # what is posted is the reporter's
    post(&self.mail, event, &self.bells)
    forget(&self.tallies)
    if self.found.sampled:
        tally(self, &self.found.stack, moment - began)
    self.lasting.untold = True
    self.lasting.open = True
    self.lasting.beat = beat
    self.lasting.began = began
    self.lasting.counted = moment if self.found.sampled else began
    self.lasting.thread = thread
    self.lasting.before = before[0]
    see_end(self)


# Of the stall that was told.
cdef inline void see_end(Watched *self) noexcept nogil:
    cdef Lasting *stall = &self.lasting
    cdef Event *event
    stall.wanting = 0
    stall.counted = follow(self, stall.beat, stall.began, stall.counted)
    if self.bells.pausing and goes_on(self, stall.beat):
        return
    stall.open = False
    event = of_callback(self, stall.beat, stall.began, True)
    if event is NULL:
        return
    event.at = now()
    take_shares(event, &stall.before, stall.thread)
    prolong(&self.tallies, event.at - stall.counted)
    enclose(event, &self.tallies)
    post(&self.mail, event, &self.bells)


cdef inline Event *of_callback(
        Watched *self, unsigned long long beat, double began, bint over) noexcept nogil:
    cdef Event *event = new_event(&self.mail, over)
    if event is not NULL:
        event.stall = self.stalls
        event.beat = beat
        event.began = began
        event.thread = self.thread
    return event


# What is known of it at `event.at`; `waited`: seconds that the system kept from it, at least.
cdef inline void examine(
        Watched *self, Event *event, const Baseline *before, int thread,
        double waited) noexcept nogil:
    take_shares(event, before, thread)
    event.sampled = self.samples and sample(thread, self.python, &event.stack, PATIENCE)
    event.used.queued = max(event.used.queued, waited)
    event.collecting = self.collecting[0] == thread
    find_call(self, event)


cdef inline void take_shares(Event *event, const Baseline *before, int thread) noexcept nogil:
    cdef Usage used = used_since(before, thread)
    event.used.cpu = in_all(before, used.cpu, event.began, event.at)
    event.used.queued = in_all(before, used.queued, event.began, event.at)


# Where in the kernel it is, and who else is at work if it waits for one of ours.
cdef inline void find_call(Watched *self, Event *event) noexcept nogil:
    cdef int looks = 0
    call_of(event.thread, &event.call)
    if event.used.cpu + event.used.queued < (event.at - event.began) / 2:
        while event.call.number == RUNNING and looks < 3:
            pause(self, 0.001)      # between two calls, or two turns at the same one
            call_of(event.thread, &event.call)
            looks += 1
    if event.call.number == SYS_futex:
        find_busy(self, event)


# Who is on a CPU while the loop waits.
cdef inline void find_busy(Watched *self, Event *event) noexcept nogil:
    cdef Threads threads
    cdef int[2] spared
    all_threads(&threads)
    pause(self, 0.01)
    spared[0] = event.thread
    spared[1] = own_thread()
    event.busy = busiest(&threads, 0.004, spared, 2)
    if event.busy == 0 and any_starving(&threads, spared, 2):
        event.used.queued = event.at - event.began
    if event.busy and self.samples:
        sample(event.busy, NULL, &event.busy_stack, PATIENCE)


# Until the stall is over, look where it is; returns up to when the time is accounted for.
cdef inline double follow(
        Watched *self, unsigned long long beat, double began, double moment) noexcept nogil:
    cdef double last = moment, due = moment + pause_between(self, moment - began)
    while stuck(self, beat):
        see_home(self)
        moment = now()
        if self.lasting.untold:
            heed(self, moment)
            if self.lasting.untold and self.lasting.wanting & CALLED:
                pause(self, 0.001)
                continue
        if moment >= due:
            if look(self) and stuck(self, beat):
                tally(self, &self.stack, moment - last)
                last = moment
                if self.lasting.untold and moved(self):
                    self.lasting.wanting = 0
            due = now() + pause_between(self, moment - began)
        pause(self, min(max((now() - began) / 100, 0.001), 0.05, max(due - now(), 0.001)))
    return last


# A loop that is not ours, and waits again without an answer, has lost the bell: it is not stuck.
cdef inline void see_home(Watched *self) noexcept nogil:
    cdef Call call
    if self.view is not NULL:
        call_of(self.lasting.thread, &call)
        if at_home(self.view, &call):
            self.view.rung = False
            nb_set_flag(&self.sleep.asleep, 1)


# Often enough to tell lines apart; of long stalls for a hundredth of the time at most.
cdef inline double pause_between(Watched *self, double lasted) noexcept nogil:
    return min(max(self.threshold / 4, 0.005, lasted / 50), 1.0)


cdef inline bint look(Watched *self) noexcept nogil:
    return self.samples and sample(nb_flag(&self.thread), self.python, &self.stack, PATIENCE)


cdef inline void tally(Watched *self, const Stack *stack, double seconds) noexcept nogil:
    count(&self.tallies, stack, seconds, self.library, self.outermost)


# Whether the reporter comes to it; if it is the GIL that keeps it from that, it is told here. A
# thread of Python's gets the GIL within 5 ms where no C code holds it. Five times as long is enough
# of one wait; where the reporter, or the loop, may have had it between two looks, more is.
cdef inline void heed(Watched *self, double moment) noexcept nogil:
    cdef Lasting *stall = &self.lasting
    cdef int wanting
    if nb_peek(&self.reported) == self.found.stall:
        stall.untold = False
        return
    wanting = who_wants_gil(self)
    if not wanting & stall.wanting:
        stall.wanting = wanting & ~UNSURE
        stall.stack.count = 0
        if wanting:
            measure(&stall.loop, stall.thread)
            measure(&stall.reporter, self.reporter)
        return
    stall.wanting &= wanting
    if moment < stall.loop.since + (0.025 if stall.wanting & CALLED else 0.25):
        return
    if wanting & UNSURE:
        if moment > stall.loop.since + 0.1:     # a CPU is what it does not get
            stall.wanting &= ~CALLED
        return
    if not stall.wanting & CALLED and got_on(self):
        stall.wanting = 0
        return
    stall.untold = False
    announce(self, moment)


# What else the reporter may wait for, as a lock in a program's on_stall, ends by itself. Who is
# ready to run may have woken up to look for the GIL, which happens every 5 ms, or has no CPU.
cdef inline int who_wants_gil(Watched *self) noexcept nogil:
    cdef Call call
    cdef bint coming = nb_flag(&self.coming)
    cdef int wanting = 0
    see_gil(self, &call)
    if call.number == UNKNOWN or at_gil(&call, self.gil[0]):
        wanting = REPORTER
        if call.number == UNKNOWN or (coming and nb_flag(&self.coming)):
            wanting |= CALLED
    elif call.number == RUNNING:
        wanting = self.lasting.wanting & (REPORTER | CALLED if coming else REPORTER)
        if wanting & CALLED:
            wanting |= UNSURE
    call_of(self.lasting.thread, &call)
    if at_gil(&call, self.gil[0]):
        wanting |= LOOP
    elif call.number == RUNNING:
        wanting |= self.lasting.wanting & LOOP
    return wanting


# Whether the loop's thread is at another instruction: then it runs Python code, and gives the GIL
# up.
cdef inline bint moved(Watched *self) noexcept nogil:
    cdef Lasting *stall = &self.lasting
    if stall.stack.count == 0:
        copy(&stall.stack, &self.stack)
        return False
    return not same(&stall.stack, &self.stack)


# Who waits for the GIL wakes up every 5 ms, for up to 0.1 ms: who took more CPU time had it.
cdef inline bint got_on(Watched *self) noexcept nogil:
    cdef Lasting *stall = &self.lasting
    if stall.wanting & REPORTER:
        return used_since(&stall.reporter, self.reporter).cpu > 0.02
    return used_since(&stall.loop, stall.thread).cpu > 0.02


# Where the reporter is; if it has been woken, it waits for nothing but the GIL.
cdef inline void see_gil(Watched *self, Call *call) noexcept nogil:
    cdef bint coming = nb_flag(&self.coming)
    call_of(self.reporter, call)
    if coming and call.number == SYS_futex and nb_flag(&self.coming):
        self.gil[0] = call.arguments[0]


cdef inline void announce(Watched *self, double moment) noexcept nogil:
    cdef Lasting *stall = &self.lasting
    cdef Event *event = &self.found
    if moment > event.at + 0.1:     # it may have come to another line since
        event.at = moment
        event.busy = event.busy_stack.count = 0
        examine(self, event, &stall.loop, stall.thread, 0)
    if not stuck(self, stall.beat):
        return
    if event.busy and event.busy_stack.count == 0 and self.samples:
        # It had no CPU to answer on.
        sample(event.busy, NULL, &event.busy_stack, 3 * PATIENCE)
    tell(self, event)
