"""The turn of a loop: ask the kernel, queue what is due, run it, send what was written.

- All of it is for the loop's thread, GIL held, but for call_soon_threadsafe() and
  wake(), which any thread may call that holds the GIL.
- No wake-up is lost: `asleep` is set, and the ring looked at, before the wait gives up
  the GIL; whoever pushes to the ring holds the GIL, and sees it.
- Work runs in the order it was queued. A turn runs what was ready when it began: what
  was left over, then who the kernel found ready, then timers, as asyncio does.
- The kernel is asked in every turn, as asyncio does, until UNASKED questions in a row were
  in vain. Then, while callbacks are ready, only after UNASKED of them or at the next tick of
  the coarse clock, whichever is first: asking costs more than a callback.
- A forked child runs and sends nothing of what its parent's loop has begun, and lets go of none
  of it: that would run code, the `finally` of a coroutine say, which is the parent's to run.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from posix.unistd cimport read

from neverblock.engine.buckets cimport put, put_seconds
from neverblock.engine.clock cimport coarse_now, now
from neverblock.engine.driver cimport Endpoint
from neverblock.engine.pulse cimport Pulse, nb_wanted
from neverblock.engine.readiness cimport Readiness
from neverblock.engine.ready cimport Handle, Ready, TimerHandle, Timers, new_handle, new_timer
from neverblock.engine.sample cimport Sample
from neverblock.engine.sources cimport Sources
from neverblock.engine.tally cimport owner_of
from neverblock.engine.wakeup cimport Wakeup
from neverblock.multiplexers.base cimport READ, WRITE, Multiplexer

import sys
from asyncio import base_events, format_helpers

cdef extern from *:
    """
    /* Hands an exception that is set already to Cython. */
    static int nb_raise_set(void) { return -1; }
    """
    int nb_raise_set() except -1
    Py_ssize_t PY_SSIZE_T_MAX
    int PyObject_GenericSetAttr(object owner, object name, PyObject *value) except -1

cdef enum:
    UNASKED = 64                    # questions in vain, then callbacks without a question
    LONGEST_WAIT = 24 * 3600        # seconds; some kernels refuse longer ones
    TICK_MS = 20                    # more than the coarse clock can lag


cdef int descriptor(object file) except -1:
    """The descriptor of an int or an object with fileno(), as selectors has it."""
    cdef int fd
    if isinstance(file, int):
        fd = file
    else:
        try:
            fd = int(file.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {file!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


cdef class Engine:
    """What runs hot in an event loop; stands before asyncio's own loop in the MRO."""

    def __cinit__(self, *args, **kwargs):
        self.ready = Ready()
        self.timers = Timers()
        self.files = {}
        self.sample = Sample()
        self.signals = -1
        self._closed = True     # until asyncio's own __init__ has said otherwise

    def __init__(self, Multiplexer multiplexer):
        self.multiplexer = multiplexer
        self._pulse = Pulse(multiplexer)
        self.sources = Sources(multiplexer, self.ready)
        self.driver = Readiness(self.sources)
        self.look_at_clock()

    def __setattr__(self, name, value):
        PyObject_GenericSetAttr(self, name, <PyObject *> value)
        if name == "time":
            self.look_at_clock()

    def __delattr__(self, name):
        PyObject_GenericSetAttr(self, name, NULL)
        if name == "time":
            self.look_at_clock()

    cdef int look_at_clock(self) except -1:
        # time() may be replaced on the loop, in a subclass, or on the class between runs.
        self.own_clock = type(self).time is not Engine.time or "time" in vars(self)
        return 0

    # Callbacks

    def time(self):
        """Seconds on the loop's monotonic clock."""
        return now()

    def call_soon(self, callback, *args, context=None):
        """Run callback(*args) in the next turn, after what is queued already.

        Returns a Handle. Raises RuntimeError when the loop is closed.
        """
        cdef Handle handle
        if self._closed:
            self.check_closed()
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_soon")
        handle = new_handle(callback, args, context)
        if self._debug:
            handle.source_traceback = format_helpers.extract_stack(sys._getframe())
        self.ready.push(handle)
        return handle

    def call_soon_threadsafe(self, callback, *args, context=None):
        """call_soon() for any thread: wakes the loop where it waits."""
        cdef Handle handle
        if self._closed:
            self.check_closed()
        if self._debug:
            self._check_callback(callback, "call_soon_threadsafe")
        handle = new_handle(callback, args, context)
        if self._debug:
            handle.source_traceback = format_helpers.extract_stack(sys._getframe())
        self.ready.push(handle)
        self.wake()
        return handle

    def call_later(self, delay, callback, *args, context=None):
        """Run callback(*args) after `delay` seconds. Returns a TimerHandle."""
        if delay is None:
            raise TypeError("delay must not be None")
        return self.schedule_at(
            (self.time() if self.own_clock else now()) + delay, callback, args, context,
            "call_later")

    def call_at(self, when, callback, *args, context=None):
        """Run callback(*args) at `when`, in seconds on loop.time(). Returns a TimerHandle."""
        if when is None:
            raise TypeError("when cannot be None")
        return self.schedule_at(when, callback, args, context, "call_at")

    cdef TimerHandle schedule_at(
            self, double when, object callback, tuple args, object context, str caller):
        cdef TimerHandle handle
        if self._closed:
            self.check_closed()
        if self._debug:
            self._check_thread()
            self._check_callback(callback, caller)
        handle = new_timer(when, callback, args, context)
        if self._debug:
            handle.source_traceback = format_helpers.extract_stack(sys._getframe())
        self.timers.push(handle)
        return handle

    cdef int check_closed(self) except -1:
        if self._closed:
            raise RuntimeError(
                "this event loop belongs to the process that forked this one: "
                "make a new one here, with asyncio.run() or new_event_loop()"
                if self.abandoned else "Event loop is closed")
        return 0

    def _check_closed(self):
        self.check_closed()

    def _add_callback(self, handle):
        # asyncio makes handles of its own for signals.
        if not handle._cancelled:
            self.ready.push(handle)

    def _add_callback_signalsafe(self, handle):
        self._add_callback(handle)
        self.wake()

    def stop(self):
        """Leave run_forever() at the end of the turn."""
        self._stopping = True

    # Descriptors

    def _add_reader(self, fd, callback, *args, context=None):
        return self.watch(fd, READ, callback, args, context)

    def _add_writer(self, fd, callback, *args, context=None):
        return self.watch(fd, WRITE, callback, args, context)

    def _remove_reader(self, fd):
        return self.unwatch(fd, READ)

    def _remove_writer(self, fd):
        return self.unwatch(fd, WRITE)

    cdef Handle watch(
            self, object file, int mask, object callback, tuple args, object context):
        cdef Handle handle
        cdef int fd
        self.check_closed()
        fd = descriptor(file)
        handle = new_handle(callback, args, context)
        handle.repeats = True
        if self._debug:
            handle.source_traceback = format_helpers.extract_stack(sys._getframe())
        self.sources.set_handle(fd, mask, handle)
        if not isinstance(file, int):
            self.files[fd] = file
        return handle

    cdef object unwatch(self, object file, int mask):
        cdef int fd
        if self._closed:
            return False
        try:
            fd = descriptor(file)
        except ValueError:
            # Closed meanwhile: it is still known by what it was.
            fd = next((number for number, known in self.files.items() if known is file), -1)
            if fd < 0:
                raise
        removed = self.sources.remove_handle(fd, mask) == 1
        if self.files and not self.sources.has_handle(fd):
            self.files.pop(fd, None)
        return removed

    def _transport_of(self, int fd):
        return self.sources.endpoint(fd)

    # Wake-ups

    def _listen(self, int signals):
        """Watch for wake-ups, and for signal numbers to be read from `signals`."""
        self.wakeup = Wakeup()
        self.multiplexer.add(self.wakeup.listener, READ)
        self.multiplexer.add(signals, READ)
        self.signals = signals

    def _stop_listening(self):
        if self.wakeup is None:     # it could not be made
            return
        self.multiplexer.drop(self.wakeup.listener)
        if self.signals >= 0:
            self.multiplexer.drop(self.signals)
        self.signals = -1
        self.wakeup.close()

    def _write_to_self(self):
        self.wake()

    cdef int wake(self) except -1:
        # `woken`: a write is under way, or not heard yet. Either ends the next wait.
        if self.asleep and not self.woken:
            self.woken = True
            self.sample.woken_at = now()
            self.wakeup.wake()
        return 0

    cdef int hear_signals(self) except -1:
        # Written by Python's C signal handler: signal.set_wakeup_fd().
        cdef char[4096] data
        cdef ssize_t size = read(self.signals, data, sizeof(data))
        cdef ssize_t i
        for i in range(size):
            if data[i] != 0:
                self._process_self_data(data[:size])
                break
        return 0

    # The turn

    def _spin(self):
        """Take turns until stop() was called."""
        self.look_at_clock()
        self.unasked = UNASKED
        self.in_vain = 0
        try:
            while True:
                self.turn()
                if self._stopping:
                    break
        finally:
            self.rest()

    def _run_once(self):
        cdef PyObject *outer = self._pulse.current
        cdef bint within = outer is not NULL or self.in_turn()
        self.unasked = UNASKED
        try:
            self.turn()
        finally:
            self.rest()
            if within:
                self._pulse.go_on(now(), outer)

    cdef int rest(self) except -1:
        """The loop is left: what it does next is no part of a turn."""
        if self.sample.marked and not self._debug:
            self.sample.plan(self._pulse.turns)
        self.sample.marked = 0
        return self._pulse.end_turn(now())

    cdef int turn(self) except -1:
        cdef bint asked = (
            self.in_vain < UNASKED or self.unasked >= UNASKED or self.ready.size == 0
            or self._stopping or coarse_now() != self.asked)
        cdef bint timed
        self._pulse.turns += 1
        timed = self._pulse.turns >= self.sample.next or self._debug
        if timed:
            self.sample.carried = self.sample.woken = self.ready.size
        if asked:
            self.ask()
        if self.timers.size:
            self.queue_due_timers(asked)
        self.unasked += self.ready.size
        put(&self._pulse.ready_lengths, self.ready.size)
        if timed:
            self.run_timed(self.ready.size, True)
        else:
            self.run_ready()
        if self.driver.queued:
            self.in_vain = 0        # what is sent may be answered
            self.driver.flush()
        return 0

    cdef int ask(self) except -1:
        cdef Pulse pulse = self._pulse
        cdef double moment = 0, patience
        cdef int count, i, fd
        # Before the ring is looked at: a clock of the user's may let other threads run.
        self.asleep = True
        self.sample.woken_at = 0
        try:
            if self.ready.size == 0:
                moment = now()
            patience = self.patience(moment)
            if patience == 0:
                self.asleep = False
            else:
                pulse.end_turn(moment)
            count = self.multiplexer.wait(patience)
        finally:
            self.asleep = False
        moment = now()
        if patience == 0:           # the question is part of the turn: one look at the clock
            pulse.end_turn(moment)
        pulse.began = moment
        pulse.before = pulse.callbacks + pulse.others
        self.sample.woken = self.ready.size
        self.unasked = 0
        if count or patience:
            self.in_vain = 0
        else:
            self.in_vain += 1
            if self.in_vain >= UNASKED:
                self.asked = coarse_now()
        for i in range(count):
            fd = self.multiplexer.events[i].fd
            if fd == self.wakeup.listener:
                self.woken = False
                self.wakeup.hear()
            elif fd == self.signals:
                self.hear_signals()
            else:
                self.sources.found(fd, self.multiplexer.events[i].mask)
        return PyErr_CheckSignals()

    cdef double patience(self, double moment) except? -2:
        """How long there is nothing to do but wait, in seconds; below 0: no limit."""
        cdef double left
        if self.ready.size or self._stopping or self.driver.queued:
            return 0
        if self.timers.size == 0:
            return -1
        left = self.timers.heap[0].deadline - (self.time() if self.own_clock else moment)
        return min(max(left, 0), LONGEST_WAIT)

    cdef int queue_due_timers(self, bint asked) except -1:
        cdef double until
        if self.own_clock:
            until = self.time() + self._clock_resolution
        elif asked:
            until = self._pulse.began
        elif self.timers.heap[0].deadline > coarse_now() + TICK_MS * 1e-3:
            return 0
        else:
            until = now()
        return self.timers.move_due(until, self.ready)

    cdef int run_ready(self) except -1:
        cdef Ready ready = self.ready
        cdef Pulse pulse = self._pulse
        cdef Py_ssize_t left = ready.size
        cdef object item
        cdef Handle handle
        cdef bint failed
        while left > 0 and ready.size > 0:      # a callback may have taken a turn itself
            if nb_wanted(&pulse.wanted):
                return self.run_timed(left, False)
            left -= 1
            item = ready.pop()
            if type(item) is not Handle and type(item) is not TimerHandle:
                self.run_other(item)
                continue
            handle = <Handle> item
            if handle.is_cancelled:
                continue
            pulse.callbacks += 1
            pulse.current = <PyObject *> handle
            failed = handle.run() < 0
            pulse.current = NULL
            if failed:
                self.report(handle)
            if not handle.repeats:
                handle.drop()
        return ready.shrink()

    cdef int run_other(self, object item) except -1:
        self._pulse.others += 1
        self._pulse.current = <PyObject *> item
        try:
            if isinstance(item, Endpoint):
                return self.driver.deliver(<Endpoint> item)
            if not item._cancelled:
                item._run()
            return 0
        finally:
            self._pulse.current = NULL

    cdef int run_timed(self, Py_ssize_t left, bint recorded) except -1:
        """The same with a look at the clock after each callback.

        recorded: into the histograms, a turn as a whole. Else for the tally of a long turn.
        """
        cdef Pulse pulse = self._pulse
        cdef Sample sample = self.sample
        cdef unsigned long long turn = pulse.turns
        cdef bint second = recorded and sample.marked and sample.marked == turn - 1
        cdef bint first = recorded and not second
        cdef Py_ssize_t place = 0, queued = 0
        cdef object item, owner = None
        cdef const void *method = NULL
        cdef double before = now(), after, since
        sample.reached = 0
        if first:
            sample.count = 0
            sample.marked = turn
        while left > 0 and self.ready.size > 0:
            left -= 1
            item = self.ready.pop()
            if second and pulse.turns == turn:
                since = self.waiting_since(item, place)
                place += 1
                if since > 0:
                    put_seconds(&pulse.lags, before - since)
            if pulse.wanted and pulse.tally is not None and pulse.began:
                if pulse.tally.turn != pulse.began:
                    pulse.tally.begin(pulse.began, before)
                owner = owner_of(item, &method)
            if self.run_item(item) == 0:
                continue
            after = now()
            if recorded:
                put_seconds(&pulse.callback_lengths, after - before)
            if owner is not None:
                if pulse.tally.turn == pulse.began:     # else it has taken a turn itself
                    pulse.tally.add(owner, method, after - before)
                owner = None
            if self._debug and after - before >= self.slow_callback_duration:
                base_events.logger.warning(
                    "Executing %s took %.3f seconds",
                    item if isinstance(item, Endpoint) else base_events._format_handle(item),
                    after - before)
            if isinstance(item, Handle) and not (<Handle> item).repeats:
                (<Handle> item).drop()
            if first and sample.marked == turn and self.ready.size - left > queued:
                queued = self.ready.size - left
                sample.mark(queued, before)
            before = after
        if first and sample.marked == turn:
            sample.mark(PY_SSIZE_T_MAX, before)
        elif second and not self._debug:
            sample.plan(turn)
        return self.ready.shrink()

    cdef int run_item(self, object item) except -1:
        """Whether it ran: it may be cancelled. Its handle is not dropped yet."""
        if self._debug and not isinstance(item, Endpoint):
            self._current_handle = item
        try:
            if not isinstance(item, Handle):
                self.run_other(item)
            elif (<Handle> item).is_cancelled:
                return 0
            else:
                self._pulse.callbacks += 1
                self._pulse.current = <PyObject *> item
                if (<Handle> item).run() < 0:
                    self._pulse.current = NULL
                    self.report(<Handle> item)
        finally:
            self._pulse.current = NULL
            if self._debug:
                self._current_handle = None
        return 1

    cdef double waiting_since(self, object item, Py_ssize_t place) except? -1:
        """When it was to run, or queued; 0: not known."""
        if type(item) is TimerHandle:
            return 0 if self.own_clock else (<TimerHandle> item).deadline
        return self.sample.since(place, self._pulse.began)

    cdef int report(self, Handle handle) except -1:
        """A callback raised: tell the exception handler, or leave the loop."""
        try:
            nb_raise_set()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            callback = format_helpers._format_callback_source(handle.callback, handle.args)
            context = {
                "message": f"Exception in callback {callback}",
                "exception": error,
                "handle": handle,
            }
            if handle.source_traceback:
                context["source_traceback"] = handle.source_traceback
            self.call_exception_handler(context)
        return 0

    # The end

    def _discard(self):
        """Forget all that was queued or watched. The loop is closed, or another process's."""
        self.timers.clear()
        self.ready.clear()
        self.sources.clear()
        self.files.clear()

    def _abandon(self):
        """In a forked child: close without a word to what the parent goes on using."""
        if not self._closed:
            self._closed = self.abandoned = True
            self.asleep = False
            self.signals = -1
            self.ready.abandon()
            self.sources.abandon()
            self.multiplexer.release()

    def statistics(self):
        """Counts and histograms since the loop was made, and the multiplexer's own counts."""
        return {
            "turns": self._pulse.turns,
            "callbacks": self._pulse.callbacks,
            "ready": self.ready.size,
            "timers": self.timers.size,
            **self._pulse.histograms(),
            "multiplexer": self.multiplexer.statistics(),
        }
