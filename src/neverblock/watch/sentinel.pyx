"""The thread that watches a loop: it never needs the GIL, so nothing that holds it escapes.

- The sentinel's own thread is a native one. It looks at the loop's pulse in steps, and sleeps
  for as long as the loop sleeps. What it finds it posts.
- While the loop gets on, a look reads a few words of memory and nothing of the kernel's.
- A reporter, a thread of Python's, takes events out with next(), and claims a stall before it tells
  of it. Where it does not come to that because the GIL is held, the sentinel itself writes the
  first lines to a descriptor.
- A forked child has neither thread: abandon() makes all of it inert there.
"""

from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from posix.unistd cimport getpid, usleep

from neverblock.engine.clock cimport now
from neverblock.engine.pulse cimport Pulse
from neverblock.multiplexers.base cimport nb_set_flag
from neverblock.watch.bell cimport (
    nb_be_named, nb_bell_make, nb_bell_wait, nb_start, pthread_cond_signal, pthread_join,
    pthread_mutex_lock, pthread_mutex_unlock, pthread_t, rest, ring,
)
from neverblock.watch.kernel cimport Call, call_of, halted, nb_call_name
from neverblock.watch.mail cimport Event, at_gil, discard, take
from neverblock.watch.outside cimport Outside, ask, at_home, may_be_home
from neverblock.watch.sampler cimport own_thread
from neverblock.watch.scheduling cimport stopped, unscheduled
from neverblock.watch.shares cimport Baseline, measure
from neverblock.watch.stuck cimport report, see_end, see_gil
from neverblock.watch.text cimport NAME
from neverblock.watch.turn cimport end_turn, look_at_turn
from neverblock.watch.walker cimport PyThreadState, lines_of
from neverblock.watch.watched cimport PREFIXES, Watched, asked_of, beat_of, goes_on, nb_flag

cdef extern from * nogil:
    """
    #define nb_listen(place, whom) __atomic_store_n(place, whom, __ATOMIC_SEQ_CST)
    """
    void nb_listen(void **place, void *whom) noexcept

cdef extern from "Python.h" nogil:
    PyThreadState *PyThreadState_Get()

cdef enum:
    ASLEEP = 4              # looks at the same sleep, then no more until it ends

#: In which a loop that sleeps has to be awake, once asked, seconds.
cdef double AT_ONCE = 0.002
#: The thread that runs the garbage collector; 0: none.
cdef int collecting = 0
#: Where threads wait for the GIL, of which there is one in a process; 0: not seen yet.
cdef unsigned long gil = 0
#: How often it may still be searched for: in a build without a GIL it is never found.
cdef int searches = 3


def collection(phase, info):
    """For gc.callbacks."""
    global collecting
    collecting = own_thread() if phase == "start" else 0


cdef void view(Watched *self) noexcept nogil:
    """Does a loop that is not ours sleep? Where it does not, it has to answer."""
    cdef Call call
    cdef unsigned long long beat = beat_of(self)
    call_of(self.thread, &call)
    if not at_home(self.view, &call):
        ask(self.view, beat)
        if may_be_home(&call):
            rest(&self.bells, AT_ONCE)
            if beat_of(self) != beat:       # woken out of it
                self.view.home = call
    nb_set_flag(&self.sleep.asleep, at_home(self.view, &call))


cdef void hear(void *argument) noexcept nogil:
    ring(&(<Watched *> argument).bells)


cdef void *body(void *argument) noexcept nogil:
    cdef Watched *self = <Watched *> argument
    cdef Baseline before
    cdef unsigned long long beat, last = 0
    cdef double moment, previous = now(), seen = 0, began = 0, pause = -1, late, waited
    cdef bint held = False          # whether the callback of beat `last` is looked at since `seen`
    cdef int slept = 0
    nb_be_named()
    self.watching = own_thread()
    before.since = 0
    if self.lasting.open:           # it was told before a fork
        see_end(self)
        previous = now()
        if not self.lasting.open:
            self.turn.stalled += previous - self.lasting.began
    while True:
        rest(&self.bells, pause)
        if self.view is not NULL and nb_flag(&self.thread) and not self.bells.quit:
            view(self)
        moment = now()
        if self.bells.quit:
            if not self.bells.pausing:
                end_turn(self, moment)
            return NULL
        self.late = late = stopped(self, moment - previous - pause) if pause >= 0 else 0
        previous += late
        seen += late
        began += late
        self.turn.stalled += late
        pause = self.step
        if not nb_flag(&self.thread):
            end_turn(self, moment)
            held = False
            pause = -1
        elif nb_flag(&self.sleep.asleep):
            look_at_turn(self, moment, moment)
            beat = beat_of(self)
            slept = slept + 1 if beat == last and not held else 0
            held = False
            last = beat
            if slept >= ASLEEP and self.view is NULL:
                slept = 0
                nb_listen(&self.sleep.listening, self)
                if nb_flag(&self.sleep.asleep):
                    rest(&self.bells, -1)
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
            before.since = 0
            # The first callback of a turn begins when the kernel was asked; others later, but
            # not before the last look.
            began = min(max(previous, asked_of(self)), moment)
            if self.view is not NULL:
                began = min(self.view.at, moment)
            pause = min(look_at_turn(self, began, moment), self.step)
        elif before.since == 0:
            # It lasts. Of what was not measured a step counts at most: we may have had no CPU for
            # long, nor may it.
            measure(&before, self.thread)
            seen = max(seen, moment - self.step)
            pause = min(look_at_turn(self, began, moment), self.step)
            pause = max(min(pause, seen + self.threshold - moment), self.step / 2)
        elif moment < seen + self.threshold:
            pause = min(
                look_at_turn(self, began, moment), self.step, seen + self.threshold - moment)
        elif halted(self.thread):
            held = False        # by a debugger
            self.turn.stalled = moment - self.turn.began
        else:
            # What the system kept from the loop is not the callback's, until it is a stall itself.
            waited = unscheduled(self, &before, seen, moment)
            if max(moment - seen - waited, waited) < self.threshold:
                pause = min(self.step, max(self.threshold + waited + seen - moment, 0.001))
            else:
                report(self, last, began, moment, waited, &before)
                held = False
                moment = now()
                if not self.lasting.open:
                    self.turn.stalled += moment - began
        previous = moment


cdef int keep(char *room, list words) except -1:
    """As many as fit, each with a zero, and one more zero behind the last."""
    cdef bytes word
    cdef Py_ssize_t at = 0
    for word in words:
        if word and at + len(word) + 2 < PREFIXES:
            memcpy(&room[at], <const char *> word, len(word))
            at += len(word) + 1
    return 0


cdef class Sentinel:
    """Watches the pulse of one loop. start(), then enter() and leave() around its runs."""

    cdef Watched *state
    cdef Pulse pulse
    cdef Outside outside
    cdef pthread_t thread
    cdef bint started
    cdef int process

    def __cinit__(self, Pulse pulse, double threshold, double turn_threshold, int output,
                  list library, list outermost, bytes directory, bint samples,
                  bint json=False, Outside outside=None):
        cdef Watched *state = <Watched *> calloc(1, sizeof(Watched))
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
        state.json = json
        state.collecting = &collecting
        state.gil = &gil
        keep(state.library, library)
        keep(state.outermost, outermost)
        if len(directory) < NAME:
            snprintf(state.directory, NAME, "%s", <char *> directory)
        if nb_bell_make(&state.bells.mutex, &state.bells.bell, &state.bells.post) < 0:
            raise MemoryError

    def __dealloc__(self):
        if self.state is not NULL and not self.started:
            while self.state.mail.first is not NULL:
                discard(take(&self.state.mail))
            if self.pulse is None:      # the collector took it
                free(self.state)
            else:
                self.pulse.keep(self.state)

    def start(self):
        """Start the native thread; again after stop(). Raises RuntimeError where the system has
        none."""
        self.state.sleep.listener = hear
        self.state.bells.quit = self.state.bells.ended = self.state.bells.pausing = False
        self.state.reporter = self.state.listening = 0
        self.state.bells.rung = True      # the loop may run already
        if nb_start(&self.thread, body, self.state):
            raise RuntimeError("the watch cannot start its thread: the system refuses one more")
        self.started = True
        self.process = getpid()

    def stop(self):
        """End the thread, and with it next(). Idempotent."""
        if self.started and self.process == getpid():
            self.started = False    # first: another thread may come while we wait
            with nogil:
                pthread_mutex_lock(&self.state.bells.mutex)
                self.state.bells.quit = True
                pthread_cond_signal(&self.state.bells.bell)
                pthread_mutex_unlock(&self.state.bells.mutex)
                pthread_join(self.thread, NULL)
                pthread_mutex_lock(&self.state.bells.mutex)
                self.state.bells.ended = True
                pthread_cond_signal(&self.state.bells.post)
                pthread_mutex_unlock(&self.state.bells.mutex)

    def pause(self):
        """stop() until start(): a stall that goes on meanwhile stays the same one."""
        self.state.bells.pausing = True
        self.stop()

    def abandon(self):
        """In a forked child: the thread is not here, and its lock may be closed for ever."""
        self.state.sleep.listening = NULL

    def enter(self):
        """The calling thread runs the loop from now on."""
        self.state.python = PyThreadState_Get()
        self.state.thread = own_thread()
        ring(&self.state.bells)

    def leave(self):
        """The loop does not run any more."""
        self.state.thread = 0
        ring(&self.state.bells)

    def arrive(self):
        """The calling thread reports from now on."""
        nb_be_named()
        self.state.reporter = own_thread()

    def search_gil(self):
        """See where threads wait for the GIL, once in a process: there the reporter can be known to
        wait for it whatever it is at. Called after start(); holds the GIL for about 0.1 ms, for
        20 ms at most."""
        global searches
        cdef Watched *state = self.state
        cdef Call call
        cdef double until = now() + 0.1
        if gil or searches <= 0:
            return
        searches -= 1
        with nogil:
            while not nb_flag(&state.listening) and now() < until:
                usleep(50)
        until = now() + 0.02
        pthread_mutex_lock(&state.bells.mutex)
        state.called = True
        pthread_cond_signal(&state.bells.post)
        pthread_mutex_unlock(&state.bells.mutex)
        while gil == 0 and now() < until:
            usleep(50)      # the reporter cannot have the GIL meanwhile
            see_gil(state, &call)
        pthread_mutex_lock(&state.bells.mutex)
        state.called = False
        pthread_mutex_unlock(&state.bells.mutex)

    def claim(self, unsigned long long stall):
        """Whether it is the reporter who tells of that stall first: the sentinel has not. For the
        reporter's thread."""
        pthread_mutex_lock(&self.state.bells.mutex)
        mine = self.state.written != stall
        if mine:
            self.state.reported = stall
        pthread_mutex_unlock(&self.state.bells.mutex)
        return mine

    def goes_on(self, unsigned long long beat):
        """Whether the callback that was found stuck still runs."""
        return goes_on(self.state, beat)

    @property
    def native_id(self):
        """The kernel's number of the thread that watches."""
        return self.state.watching

    @property
    def looks(self):
        """How often the thread has woken up."""
        return self.state.bells.looks

    @property
    def lost(self):
        """How often a stall was found that could not be told: too many wait for the reporter."""
        return self.state.mail.lost

    def next(self):
        """Wait for an event, by its fields; None: stopped. For the reporter's thread."""
        cdef Watched *state = self.state
        cdef Event *event
        cdef double heard
        cdef const char *name
        while True:
            with nogil:
                pthread_mutex_lock(&state.bells.mutex)
                nb_set_flag(&state.listening, 1)
                while state.mail.first is NULL and not state.bells.ended and not state.called:
                    nb_bell_wait(&state.bells.post, &state.bells.mutex, -1)
                nb_set_flag(&state.listening, 0)
                pthread_mutex_unlock(&state.bells.mutex)
                nb_set_flag(&state.coming, 1)
                heard = now()
            nb_set_flag(&state.coming, 0)
            waited = now() - heard
            pthread_mutex_lock(&state.bells.mutex)
            event = take(&state.mail)
            pthread_mutex_unlock(&state.bells.mutex)
            if event is not NULL:
                break
            if state.bells.ended:
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
                "at": event.at,
                "cpu": event.used.cpu,
                "queued": event.used.queued,
                "call": None if name is NULL else name.decode(),
                "in_call": event.call.number >= 0,
                "faulting": event.call.number == -1,
                "arguments": [event.call.arguments[i] for i in range(6)],
                "on_gil": bool(at_gil(&event.call, gil)),
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
