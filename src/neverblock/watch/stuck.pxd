# A stall, from when it is known to its end.
#
# - The stack is taken when it is found, and again while it lasts: an event has what was found then,
#   and the one of its end how often each stack was found since.
# - The sentinel may have to quit meanwhile, for a fork: the stall stays open, and see_end() goes on
#   with it when the sentinel is started again.

from neverblock.engine.clock cimport now
from neverblock.watch.kernel cimport (
    RUNNING, UNKNOWN, Call, SYS_futex, Threads, Usage, all_threads, any_starving, busiest,
    call_of,
)
from neverblock.watch.mail cimport Event, at_gil, discard, enclose, new_event, post
from neverblock.watch.sampler cimport own_thread, sample
from neverblock.watch.shares cimport Baseline, in_all, used_since
from neverblock.watch.tally cimport count, forget, prolong
from neverblock.watch.walker cimport Stack
from neverblock.watch.watched cimport (
    PATIENCE, Lasting, Watched, goes_on, nb_flag, pause, stuck,
)
from neverblock.watch.words cimport tell


cdef inline void report(
        Watched *self, unsigned long long beat, double began, double moment, double waited,
        const Baseline *before) noexcept nogil:
    cdef int thread = self.thread       # which may leave meanwhile
    cdef Event *event = of_callback(self, beat, began)
    if event is NULL:
        return
    event.at = moment
    take_shares(event, before, thread)
    event.sampled = self.samples and sample(thread, self.python, &event.stack, PATIENCE)
    event.used.queued = max(event.used.queued, waited)
    event.collecting = self.collecting[0] == thread
    find_call(self, event)
    if not stuck(self, beat):
        discard(event)
        return
    self.found = event[0]       # what is posted is the reporter's
    post(&self.mail, event, &self.bells)
    forget(&self.tallies)
    if self.found.sampled:
        tally(self, &self.found.stack, moment - began)
    if not taken(self, beat) and stuck(self, beat):
        if self.found.busy and self.found.busy_stack.count == 0 and self.samples:
            # It had no CPU to answer on.
            sample(self.found.busy, NULL, &self.found.busy_stack, 3 * PATIENCE)
        tell(self, &self.found)
    self.lasting.open = True
    self.lasting.beat = beat
    self.lasting.began = began
    self.lasting.counted = moment
    self.lasting.thread = thread
    self.lasting.before = before[0]
    see_end(self)


# Of the stall that was told.
cdef inline void see_end(Watched *self) noexcept nogil:
    cdef Lasting *stall = &self.lasting
    cdef Event *event
    stall.counted = follow(self, stall.beat, stall.began, stall.counted)
    if self.bells.pausing and goes_on(self, stall.beat):
        return
    stall.open = False
    event = of_callback(self, stall.beat, stall.began)
    if event is NULL:
        return
    event.over = True
    event.at = now()
    take_shares(event, &stall.before, stall.thread)
    prolong(&self.tallies, event.at - stall.counted)
    enclose(event, &self.tallies)
    self.stalls += 1
    post(&self.mail, event, &self.bells)


cdef inline Event *of_callback(
        Watched *self, unsigned long long beat, double began) noexcept nogil:
    cdef Event *event = new_event(&self.mail)
    if event is not NULL:
        event.stall = self.stalls
        event.beat = beat
        event.began = began
        event.thread = self.thread
    return event


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
    cdef double last = moment, due = moment
    while stuck(self, beat):
        moment = now()
        if moment >= due:
            if look(self) and stuck(self, beat):
                tally(self, &self.stack, moment - last)
                last = moment
            # Often enough to tell lines apart; of long stalls for a hundredth of the time at most.
            due = now() + min(max(self.threshold / 4, 0.005, (moment - began) / 50), 1.0)
        pause(self, min(max((now() - began) / 100, 0.001), 0.05, max(due - now(), 0.001)))
    return last


cdef inline bint look(Watched *self) noexcept nogil:
    return self.samples and sample(nb_flag(&self.thread), self.python, &self.stack, PATIENCE)


cdef inline void tally(Watched *self, const Stack *stack, double seconds) noexcept nogil:
    count(&self.tallies, stack, seconds, self.library, self.outermost)


# Whether it can be left to the reporter: it has come, or waits for something else than the GIL,
# such as a CPU, or a lock in a program's on_stall. It has five of the intervals that Python's
# threads have to get the GIL in, from when it waits for that.
cdef inline bint taken(Watched *self, unsigned long long beat) noexcept nogil:
    cdef Call call
    cdef double end = now() + 0.025, latest = now() + 0.25
    cdef bint coming, at_it = False
    while now() < end:
        pause(self, 0.001)
        if nb_flag(&self.mail.queued) == 0:
            return True
        coming = nb_flag(&self.coming)
        call_of(self.reporter, &call)
        if call.number == SYS_futex and coming and nb_flag(&self.coming):
            self.gil = call.arguments[0]
        at_it = call.number == UNKNOWN or at_gil(&call, self.gil)
        if not at_it and stuck(self, beat):
            end = min(now() + 0.025, latest)
    return not at_it
