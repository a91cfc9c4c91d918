"""The thread that watches a loop: it never needs the GIL, so nothing that holds it escapes.

- The sentinel's own thread is a native one. It looks at the loop's pulse in steps, and sleeps
  for as long as the loop sleeps. What it finds it puts in a queue.
- The stack is taken when a stall is found, and again while it lasts: an event has what was found
  then, and its end has how often each stack was found since.
- A reporter, a thread of Python's, takes events out with next(). Where it does not come to it
  because the GIL is held, the sentinel itself writes the first lines to a descriptor.
- State is shared by both under `mutex`, which nobody holds while waiting for the GIL; what the
  loop's thread writes (pulse, sleep) is read by word, without a lock.
- A forked child has neither thread: abandon() makes all of it inert there.
"""

from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memset, strlen
from posix.unistd cimport getpid, write

from neverblock.engine.clock cimport now
from neverblock.engine.pulse cimport Pulse
from neverblock.multiplexers.base cimport Sleep, nb_set_flag
from neverblock.watch.kernel cimport (
    RUNNING, UNKNOWN, Call, Threads, Usage, all_threads, any_starving, busiest, call_of, halted,
    nb_call_name, starving, usage_of,
)
from neverblock.watch.outside cimport Outside, View, ask, at_home, may_be_home
from neverblock.watch.sampler cimport own_thread, sample
from neverblock.watch.tally cimport STACKS, Tallies, Tally, count, forget, prolong
from neverblock.watch.text cimport NAME, begins, file_of, function_of, own_line, source_line
from neverblock.watch.walker cimport PyThreadState, Stack, copy, lines_of

cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <signal.h>
    #include <sys/prctl.h>
    #include <sys/syscall.h>
    #include <time.h>

    /* What ps -T and top -H show of the calling thread. */
    #define nb_be_named() prctl(PR_SET_NAME, "nb-watch")
    #define nb_peek(place) __atomic_load_n(place, __ATOMIC_RELAXED)
    #define nb_want(place) __atomic_store_n(place, 1, __ATOMIC_RELAXED)
    #define nb_listen(place, whom) __atomic_store_n(place, whom, __ATOMIC_SEQ_CST)
    #define nb_flag(place) __atomic_load_n(place, __ATOMIC_SEQ_CST)

    static int nb_bell_make(pthread_mutex_t *mutex, pthread_cond_t *bell, pthread_cond_t *post) {
        pthread_condattr_t kind;
        pthread_condattr_init(&kind);
    #ifndef __APPLE__
        pthread_condattr_setclock(&kind, CLOCK_MONOTONIC);
    #endif
        if (pthread_mutex_init(mutex, NULL) || pthread_cond_init(bell, &kind)
                || pthread_cond_init(post, &kind))
            return -1;
        return 0;
    }

    static void nb_bell_wait(pthread_cond_t *bell, pthread_mutex_t *mutex, double until) {
        struct timespec end;
        if (until < 0) {
            pthread_cond_wait(bell, mutex);
            return;
        }
        end.tv_sec = (time_t) until;
        end.tv_nsec = (long) ((until - (double) end.tv_sec) * 1e9);
        pthread_cond_timedwait(bell, mutex, &end);
    }

    /* No signal of the user's is for this thread. */
    static int nb_start(pthread_t *thread, void *(*body)(void *), void *argument) {
        sigset_t all, before;
        int error;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = pthread_create(thread, NULL, body, argument);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return error;
    }
    """
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef unsigned long pthread_t
    long SYS_futex
    void nb_be_named() noexcept
    unsigned long long nb_peek(unsigned long long *place) noexcept
    void nb_want(int *place) noexcept
    void nb_listen(void **place, void *whom) noexcept
    int nb_flag(int *place) noexcept
    int nb_bell_make(
        pthread_mutex_t *mutex, pthread_cond_t *bell, pthread_cond_t *post) noexcept
    void nb_bell_wait(pthread_cond_t *bell, pthread_mutex_t *mutex, double until) noexcept
    int nb_start(pthread_t *thread, void *(*body)(void *) noexcept nogil, void *argument) noexcept
    int pthread_join(pthread_t thread, void **result)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_cond_signal(pthread_cond_t *condition)

cdef extern from "Python.h" nogil:
    PyThreadState *PyThreadState_Get()

cdef enum:
    PREFIXES = 4096
    ASLEEP = 4              # looks at the same sleep, then no more until it ends
    MOST_QUEUED = 64
    GIL_SIZE = 256          # bytes; what lies that near to a wait for the GIL is one too
    PATIENCE = 30           # milliseconds for a thread to answer

cdef struct Event:
    Event *next
    bint over               # False: it goes on
    bint turn               # of many callbacks, not one that does not end
    unsigned long long callbacks    # of the turn
    bint told               # the sentinel has written the first lines itself
    bint collecting         # the loop's thread runs the garbage collector
    unsigned long long stall
    unsigned long long beat
    double began, seen, at  # CLOCK_MONOTONIC, seconds
    Usage used              # by the loop's thread since `seen`
    Call call
    int thread              # the loop's
    int busy                # another thread that is on a CPU while the loop waits for a futex
    bint sampled            # there is a stack; the callback's part of it may be empty
    Stack stack
    Stack busy_stack
    Tally *found            # where it is over: the stacks of it; an owned array, or NULL
    int found_count

cdef struct State:
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
    char[PREFIXES] library
    char[NAME] outermost
    char[NAME] directory    # what paths are shown without
    # shared, under the mutex
    pthread_mutex_t mutex
    pthread_cond_t bell     # for the sentinel
    pthread_cond_t post     # for the reporter
    bint rung
    int quit                # for the sentinel
    bint ended              # for the reporter: nothing comes any more
    Event *first
    Event *last
    int queued
    int reporter
    int watching            # the thread of the sentinel
    unsigned long long looks
    unsigned long long lost
    # the sentinel's
    Event found
    Stack stack
    Tallies tallies
    unsigned long long stalls
    double turn             # the one that is looked at, by its beginning; 0: none
    bint turn_told
    int turn_thread
    double turn_stalled     # seconds of it in callbacks that are reported by themselves
    Usage turn_used         # by the loop's thread, at its beginning or before
    Usage turn_reporter     # by the reporter's, which may have no CPU while it has the GIL
    double late             # by a stop of the process, at the last look
    Usage own

#: In which a loop that sleeps has to be awake, once asked, seconds.
cdef double AT_ONCE = 0.002
#: Where a thread waits that waits for the GIL; 0: not seen yet.
cdef unsigned long gil = 0
#: The thread that runs the garbage collector; 0: none.
cdef int collecting = 0


def collection(phase, info):
    """For gc.callbacks."""
    global collecting
    collecting = own_thread() if phase == "start" else 0


cdef unsigned long long beat_of(State *self) noexcept nogil:
    return nb_peek(self.turns) + nb_peek(self.callbacks) + nb_peek(self.others)


cdef double asked_of(State *self) noexcept nogil:
    cdef unsigned long long bits = nb_peek(self.asked)
    return (<double *> &bits)[0]


cdef bint stuck(State *self, unsigned long long beat) noexcept nogil:
    return (
        not nb_flag(&self.quit) and nb_flag(&self.thread)
        and not nb_flag(&self.sleep.asleep) and beat_of(self) == beat)


cdef void view(State *self) noexcept nogil:
    """Does a loop that is not ours sleep? Where it does not, it has to answer."""
    cdef Call call
    cdef unsigned long long beat = beat_of(self)
    call_of(self.thread, &call)
    if not at_home(self.view, &call):
        ask(self.view, beat)
        if may_be_home(&call):
            rest(self, AT_ONCE)
            if beat_of(self) != beat:       # woken out of it
                self.view.home = call
    nb_set_flag(&self.sleep.asleep, at_home(self.view, &call))


cdef void ring(void *argument) noexcept nogil:
    cdef State *self = <State *> argument
    pthread_mutex_lock(&self.mutex)
    self.rung = True
    pthread_cond_signal(&self.bell)
    pthread_mutex_unlock(&self.mutex)


cdef void rest(State *self, double pause) noexcept nogil:
    """Until the bell rings, or for so many seconds; below 0: until it rings."""
    cdef double until = -1 if pause < 0 else now() + pause
    pthread_mutex_lock(&self.mutex)
    while not self.rung and not self.quit:
        nb_bell_wait(&self.bell, &self.mutex, until)
        if until >= 0 and now() >= until:
            break
    self.rung = False
    self.looks += 1
    pthread_mutex_unlock(&self.mutex)


cdef void *body(void *argument) noexcept nogil:
    cdef State *self = <State *> argument
    cdef Usage before
    cdef unsigned long long beat, last = 0
    cdef double moment, previous = now(), seen = 0, began = 0, pause = -1, late, waited
    cdef bint held = False
    cdef int slept = 0
    nb_be_named()
    self.watching = own_thread()
    memset(&before, 0, sizeof(before))
    while True:
        rest(self, pause)
        if self.view is not NULL and nb_flag(&self.thread) and not self.quit:
            view(self)
        moment = now()
        if self.quit:
            end_turn(self, moment)
            return NULL
        self.late = late = stopped(self, moment - previous - pause) if pause >= 0 else 0
        previous += late
        seen += late
        began += late
        self.turn_stalled += late
        pause = self.step
        if not nb_flag(&self.thread):
            end_turn(self, moment)
            held = False
            pause = -1
        elif nb_flag(&self.sleep.asleep):
            look_at_turn(self, moment, moment, &before)
            usage_of(self.thread, &before)
            beat = beat_of(self)
            slept = slept + 1 if beat == last and not held else 0
            held = False
            last = beat
            if slept >= ASLEEP and self.view is NULL:
                slept = 0
                nb_listen(&self.sleep.listening, self)
                if nb_flag(&self.sleep.asleep):
                    rest(self, -1)
                nb_listen(&self.sleep.listening, NULL)
                moment = now()
                pause = 0       # it may not get past the GIL
        elif self.view is not NULL and beat_of(self) != last:
            held = False        # asked just now: let it answer
            last = beat_of(self)
            pause = self.step / 2
        elif not held or beat_of(self) != last:
            held = True
            slept = 0
            last = beat_of(self)
            seen = moment
            # The first callback of a turn begins when the kernel was asked; others later, but
            # not before the last look.
            began = min(max(previous, asked_of(self)), moment)
            if self.view is not NULL:
                began = min(self.view.at, moment)
            pause = look_at_turn(self, began, moment, &before)
            usage_of(self.thread, &before)
            pause = min(pause, self.step)
        elif moment < seen + self.threshold:
            pause = look_at_turn(self, began, moment, &before)
            pause = min(pause, self.step, seen + self.threshold - moment)
        elif halted(self.thread):
            held = False        # by a debugger
            self.turn_stalled = moment - self.turn
        else:
            # What the system kept from the loop is not the callback's, until it is a stall itself.
            waited = unscheduled(self, &before, moment - seen)
            if max(moment - seen - waited, waited) < self.threshold:
                pause = min(self.step, max(self.threshold + waited + seen - moment, 0.001))
            else:
                report(self, last, began, seen, moment, waited, &before)
                held = False
                moment = now()
                self.turn_stalled += moment - began
                usage_of(self.thread, &before)
        previous = moment


cdef double look_at_turn(
        State *self, double callback, double moment, Usage *before) noexcept nogil:
    """A turn may be long though none of its callbacks is: the present one began at `callback`.

    Returns in how many seconds it is to be looked at again.
    """
    cdef double turn = asked_of(self)
    cdef double age
    cdef Usage used
    if turn != self.turn:
        end_turn(self, moment)
        self.turn = turn
        self.turn_stalled = self.late if turn + self.late <= moment else 0
        self.turn_used = before[0]
        self.turn_thread = self.thread
        usage_of(self.reporter, &self.turn_reporter)
    age = moment - turn - self.turn_stalled
    if turn == 0 or self.turn_told:
        return self.step
    if age >= self.turn_threshold / 4:
        nb_want(self.wanted)
    if age >= self.turn_threshold:      # where it had no CPU, that is not its callbacks' doing
        used = self.turn_reporter
        usage_of(self.reporter, &used)
        age -= used.queued - self.turn_reporter.queued
        age -= unscheduled(self, &self.turn_used, age)
        if halted(self.thread):
            self.turn_stalled = moment - turn
            return self.step
    if age < self.turn_threshold:
        return max(self.turn_threshold - age, 0.002)
    # Else it is the present one that takes the time, and is reported by itself.
    if callback - turn - self.turn_stalled >= self.turn_threshold / 2:
        self.turn_told = True
        post_turn(self, moment, False)
    return self.step


cdef void end_turn(State *self, double moment) noexcept nogil:
    if self.turn_told:
        post_turn(self, moment, True)
    self.turn_told = False
    self.turn = 0


cdef void post_turn(State *self, double moment, bint over) noexcept nogil:
    cdef Event *event = new_event(self, beat_of(self), self.turn, self.turn)
    cdef Usage used = self.turn_used
    if event is NULL:
        return
    usage_of(self.turn_thread, &used)
    event.turn = True
    event.over = over
    event.at = moment
    event.callbacks = nb_peek(self.callbacks) + nb_peek(self.others) - nb_peek(self.before)
    event.used.cpu = used.cpu - self.turn_used.cpu
    event.used.queued = used.queued - self.turn_used.queued
    post(self, event)


cdef double stopped(State *self, double late) noexcept nogil:
    """For how long we were late because the process was stopped, as by SIGSTOP: the loop was, too.
    """
    cdef Usage own = self.own
    cdef double queued
    usage_of(own_thread(), &own)
    queued = own.queued - self.own.queued
    self.own = own
    return late if late > max(self.threshold / 8, 0.002) and queued < late / 2 else 0


cdef double unscheduled(State *self, Usage *before, double lasted) noexcept nogil:
    """For how long of the time the loop's thread was ready to run, and got no CPU, seconds."""
    cdef Usage used = before[0]
    cdef double cpu, queued
    usage_of(self.thread, &used)
    cpu = used.cpu - before.cpu
    queued = used.queued - before.queued
    # The kernel counts a wait when it is over.
    if cpu + queued < lasted / 2 and starving(self.thread, &used):
        rest(self, 0.01)
        if starving(self.thread, &used):
            queued = lasted - cpu
        else:       # it has just ended
            usage_of(self.thread, &used)
            queued = used.queued - before.queued
    return queued


cdef void report(
        State *self, unsigned long long beat, double began, double seen, double moment,
        double waited, Usage *before) noexcept nogil:
    """A stall, from when it is known to its end."""
    cdef Event *event = new_event(self, beat, began, seen)
    cdef Usage now_used = before[0]
    cdef int thread = self.thread       # which may leave meanwhile
    cdef int _look
    if event is NULL:
        return
    usage_of(thread, &now_used)
    event.sampled = self.samples and sample(thread, self.python, &event.stack, PATIENCE)
    event.at = moment
    event.used.cpu = now_used.cpu - before.cpu
    event.used.queued = max(now_used.queued - before.queued, waited)
    event.collecting = collecting == thread
    call_of(thread, &event.call)
    if event.used.cpu + event.used.queued < (moment - seen) / 2:
        for _look in range(3):
            if event.call.number != RUNNING:
                break
            rest(self, 0.001)       # between two calls, or two turns at the same one
            call_of(thread, &event.call)
    if event.call.number == SYS_futex:
        find_busy(self, event)
    if not stuck(self, beat):
        discard(event)
        return
    self.found = event[0]       # what is posted is the reporter's
    post(self, event)
    forget(&self.tallies)
    if self.found.sampled:
        tally(self, &self.found.stack, moment - began)
    if not taken(self, beat):
        if self.found.busy and self.found.busy_stack.count == 0 and self.samples:
            # It had no CPU to answer on.
            sample(self.found.busy, NULL, &self.found.busy_stack, 3 * PATIENCE)
        tell(self, &self.found)
    moment = follow(self, beat, began, moment)
    event = new_event(self, beat, began, seen)
    if event is NULL:
        return
    event.over = True
    event.at = now()
    usage_of(thread, &now_used)
    event.used.cpu = now_used.cpu - before.cpu
    event.used.queued = now_used.queued - before.queued
    prolong(&self.tallies, event.at - moment)
    keep_tallies(self, event)
    self.stalls += 1
    post(self, event)


cdef double follow(
        State *self, unsigned long long beat, double began, double moment) noexcept nogil:
    """Until the stall is over, look where it is; returns up to when the time is accounted for."""
    cdef double last = moment, due = moment
    while stuck(self, beat):
        moment = now()
        if moment >= due:
            if look(self) and stuck(self, beat):
                tally(self, &self.stack, moment - last)
                last = moment
            # Often enough to tell lines apart; of long stalls for a hundredth of the time at most.
            due = now() + min(max(self.threshold / 4, 0.005, (moment - began) / 50), 1.0)
        rest(self, min(max((now() - began) / 100, 0.001), 0.05, max(due - now(), 0.001)))
    return last


cdef inline bint look(State *self) noexcept nogil:
    return self.samples and sample(nb_flag(&self.thread), self.python, &self.stack, PATIENCE)


cdef inline void tally(State *self, const Stack *stack, double seconds) noexcept nogil:
    count(&self.tallies, stack, seconds, self.library, self.outermost)


cdef void keep_tallies(State *self, Event *event) noexcept nogil:
    """The stacks of a stall that is over go with the event."""
    cdef int i
    if self.tallies.used == 0:
        return
    event.found = <Tally *> calloc(self.tallies.used + 1, sizeof(Tally))
    if event.found is NULL:
        return
    for i in range(self.tallies.used):
        event.found[i] = self.tallies.all[i]
    event.found_count = self.tallies.used
    if self.tallies.all[STACKS].count:
        event.found[event.found_count] = self.tallies.all[STACKS]
        event.found_count += 1


cdef void discard(Event *event) noexcept nogil:
    free(event.found)
    free(event)


cdef Event *new_event(
        State *self, unsigned long long beat, double began, double seen) noexcept nogil:
    cdef Event *event
    if self.queued >= MOST_QUEUED:
        self.lost += 1
        return NULL
    event = <Event *> calloc(1, sizeof(Event))
    if event is not NULL:
        event.stall = self.stalls
        event.beat = beat
        event.began = began
        event.seen = seen
        event.thread = self.thread
    return event


cdef void find_busy(State *self, Event *event) noexcept nogil:
    """Who is on a CPU while the loop waits."""
    cdef Threads threads
    cdef int[2] spared
    all_threads(&threads)
    rest(self, 0.01)
    spared[0] = event.thread
    spared[1] = own_thread()
    event.busy = busiest(&threads, 0.004, spared, 2)
    if event.busy == 0 and any_starving(&threads, spared, 2):
        event.used.queued = event.at - event.seen
    if event.busy and self.samples:
        sample(event.busy, NULL, &event.busy_stack, PATIENCE)


cdef void post(State *self, Event *event) noexcept nogil:
    pthread_mutex_lock(&self.mutex)
    if self.first is NULL:
        self.first = event
    else:
        self.last.next = event
    self.last = event
    self.queued += 1
    pthread_cond_signal(&self.post)
    pthread_mutex_unlock(&self.mutex)


cdef bint taken(State *self, unsigned long long beat) noexcept nogil:
    """Whether the reporter gets the GIL, in five of the intervals that Python's threads have.
    While it waits for a CPU, or for something else, that is not counted."""
    cdef Call call
    cdef double end = now() + 0.025
    global gil
    while now() < end:
        rest(self, 0.001)
        if nb_flag(&self.queued) == 0:
            return True
        call_of(self.reporter, &call)
        if call.number == SYS_futex:
            if nb_flag(&self.queued):
                gil = call.arguments[0]
        elif call.number != UNKNOWN and stuck(self, beat):
            end = now() + 0.025
    return False


cdef bint waits_for_gil(Event *event) noexcept nogil:
    cdef unsigned long where = event.call.arguments[0]
    if event.call.number != SYS_futex or gil == 0:
        return False
    return (where - gil if where > gil else gil - where) < GIL_SIZE


cdef void tell(State *self, Event *event) noexcept nogil:
    """What can be said while somebody holds the GIL, and nobody else could."""
    cdef char[NAME] source
    cdef char[4 * NAME] text
    cdef char[NAME] why
    cdef const char *name
    cdef const Stack *stack = &event.stack
    cdef double watched = event.at - event.seen
    cdef int size, line
    cdef bint mine
    if event.used.queued >= watched / 2:
        snprintf(why, NAME, "not scheduled by the system")
    elif event.used.cpu + event.used.queued >= watched / 2:
        snprintf(
            why, NAME, "garbage collection" if event.collecting else "computing in C, GIL held")
    elif waits_for_gil(event):
        line = own_line(&event.busy_stack, self.library, self.outermost) if event.busy else -1
        if line >= 0:
            snprintf(
                why, NAME, "waiting for the GIL, held by another thread at %.200s:%d in %.100s",
                shown(self, &event.busy_stack, line), event.busy_stack.lines[line].number,
                function_of(&event.busy_stack, line))
        else:
            snprintf(why, NAME, "waiting for the GIL")
    else:
        name = nb_call_name(event.call.number)
        if name is NULL:
            name = "a system call"
        snprintf(why, NAME, "in %s, GIL held", name)
    line = own_line(stack, self.library, self.outermost)
    if line >= 0:
        source_line(stack, line, source)
        size = snprintf(
            text, sizeof(text),
            "neverblock: loop blocked %.0f ms and counting: %.300s:%d in %.200s\n"
            "    %-46.200s %s\n",
            (event.at - event.began) * 1e3, shown(self, stack, line), stack.lines[line].number,
            function_of(stack, line), source, why)
    else:
        size = snprintf(
            text, sizeof(text), "neverblock: loop blocked %.0f ms and counting: %s%s\n",
            (event.at - event.began) * 1e3,
            "a callback without Python code, " if event.sampled else "", why)
    # Marked first: from the queue it may be gone while we write.
    pthread_mutex_lock(&self.mutex)
    mine = self.queued > 0
    if mine:
        self.last.told = True
        copy(&self.last.busy_stack, &event.busy_stack)
    pthread_mutex_unlock(&self.mutex)
    if mine and self.output >= 0:
        write(self.output, text, min(size, <int> sizeof(text) - 1))


cdef const char *shown(State *self, const Stack *stack, int line) noexcept nogil:
    cdef const char *file = file_of(stack, line)
    if self.directory[0] and begins(file, self.directory):
        return file + strlen(self.directory)
    return file


cdef class Sentinel:
    """Watches the pulse of one loop. start(), then enter() and leave() around its runs."""

    cdef State *state
    cdef Pulse pulse
    cdef Outside outside
    cdef pthread_t thread
    cdef bint started
    cdef int process

    def __cinit__(self, Pulse pulse, double threshold, double turn_threshold, int output,
                  list library, bytes outermost, bytes directory, bint samples,
                  Outside outside=None):
        cdef State *state = <State *> calloc(1, sizeof(State))
        cdef bytes prefix
        cdef size_t at = 0
        if state is NULL:
            raise MemoryError
        self.state = state
        self.pulse = pulse
        state.turns = &pulse.turns
        state.callbacks = &pulse.callbacks
        state.others = &pulse.others
        state.asked = <unsigned long long *> &pulse.began
        state.before = &pulse.before
        state.wanted = &pulse.wanted
        state.sleep = &pulse.multiplexer.sleep
        self.outside = outside
        if outside is not None:
            state.view = &outside.view
        state.threshold = threshold
        state.turn_threshold = turn_threshold
        state.step = min(max(min(threshold, turn_threshold) / 4, 0.001), 0.25)
        state.output = output
        state.samples = samples
        for prefix in library:
            if prefix and at + len(prefix) + 2 < PREFIXES:
                snprintf(&state.library[at], PREFIXES - at, "%s", <char *> prefix)
                at += len(prefix) + 1
        snprintf(state.outermost, NAME, "%s", <char *> outermost)
        if len(directory) < NAME:
            snprintf(state.directory, NAME, "%s", <char *> directory)
        if nb_bell_make(&state.mutex, &state.bell, &state.post) < 0:
            raise MemoryError

    def __dealloc__(self):
        if self.state is not NULL and not self.started:
            while self.state.first is not NULL:
                self.drop_first()
            free(self.state)

    cdef int drop_first(self) except -1:
        cdef Event *event = self.state.first
        self.state.first = event.next
        self.state.queued -= 1
        discard(event)
        return 0

    def start(self):
        """Start the native thread; again after stop(). Raises RuntimeError where the system has
        none."""
        self.state.sleep.listener = ring
        self.state.quit = self.state.ended = False
        self.state.reporter = 0
        self.state.rung = True      # the loop may run already
        if nb_start(&self.thread, body, self.state):
            raise RuntimeError("the watch cannot start its thread: the system refuses one more")
        self.started = True
        self.process = getpid()

    def stop(self):
        """End the thread, and with it next(). Idempotent."""
        if self.started and self.process == getpid():
            self.started = False    # first: another thread may come while we wait
            with nogil:
                pthread_mutex_lock(&self.state.mutex)
                self.state.quit = True
                pthread_cond_signal(&self.state.bell)
                pthread_mutex_unlock(&self.state.mutex)
                pthread_join(self.thread, NULL)
                pthread_mutex_lock(&self.state.mutex)
                self.state.ended = True
                pthread_cond_signal(&self.state.post)
                pthread_mutex_unlock(&self.state.mutex)

    def abandon(self):
        """In a forked child: the thread is not here, and its lock may be closed for ever."""
        self.state.sleep.listening = NULL

    def enter(self):
        """The calling thread runs the loop from now on."""
        self.state.python = PyThreadState_Get()
        self.state.thread = own_thread()
        ring(self.state)

    def leave(self):
        """The loop does not run any more."""
        self.state.thread = 0
        ring(self.state)

    def goes_on(self, unsigned long long beat):
        """Whether the callback that was found stuck still runs."""
        return stuck(self.state, beat)

    @property
    def native_id(self):
        """The kernel's number of the thread that watches."""
        return self.state.watching

    @property
    def looks(self):
        """How often the thread has woken up."""
        return self.state.looks

    @property
    def lost(self):
        """Stalls that were not told: too many waited for the reporter."""
        return self.state.lost

    def next(self):
        """Wait for an event, by its fields; None: stopped. For the reporter's thread."""
        cdef State *state = self.state
        cdef Event *event
        cdef double heard
        cdef const char *name
        with nogil:
            pthread_mutex_lock(&state.mutex)
            if not state.reporter:
                nb_be_named()
                state.reporter = own_thread()
            while state.first is NULL and not state.ended:
                nb_bell_wait(&state.post, &state.mutex, -1)
            pthread_mutex_unlock(&state.mutex)
            heard = now()
        waited = now() - heard
        pthread_mutex_lock(&state.mutex)
        event = state.first
        if event is not NULL:
            state.first = event.next
            state.queued -= 1
        pthread_mutex_unlock(&state.mutex)
        if event is NULL:
            return None
        name = nb_call_name(event.call.number)
        try:
            return {
                "over": bool(event.over),
                "turn": bool(event.turn),
                "callbacks": event.callbacks,
                "told": bool(event.told),
                "collecting": bool(event.collecting),
                "stall": event.stall,
                "beat": event.beat,
                "began": event.began,
                "seen": event.seen,
                "at": event.at,
                "cpu": event.used.cpu,
                "queued": event.used.queued,
                "call": None if name is NULL else name.decode(),
                "in_call": event.call.number >= 0,
                "faulting": event.call.number == -1,
                "arguments": [event.call.arguments[i] for i in range(6)],
                "on_gil": bool(waits_for_gil(event)),
                "gil_wait": waited,
                "thread": event.thread,
                "busy": event.busy,
                "sampled": bool(event.sampled),
                "stack": lines_of(&event.stack),
                "busy_stack": lines_of(&event.busy_stack),
                "found": [
                    (lines_of(&event.found[i].stack), event.found[i].count, event.found[i].seconds)
                    for i in range(event.found_count)
                ],
            }
        finally:
            discard(event)
