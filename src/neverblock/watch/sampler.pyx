"""Stacks of threads, at any moment, also of one that holds the GIL.

- A thread that waits in the kernel stands still: it is looked at from outside, and believed if it
  waits in the same call afterwards. Nothing disturbs it: no call of it ends early (EINTR).
- One that runs is interrupted by a signal, whose handler walks the frames of its own thread.
- One that runs and blocks the signal is looked at twice from outside, and believed where it did
  not move: it is in C code.
- The signal is one for the whole process, a free real-time signal: handlers of the user's are left
  alone. One sample at a time, by a lock that is only ever taken without the GIL.
- Nobody is asked by signal while a program is about to take over (exec), nor while somebody traces
  this process (ptrace(2)): a debugger would halt it at each.
- A forked child has no watch: it gives the signal back.
"""

from cpython.object cimport PyObject
from libc.stdio cimport snprintf, sscanf
from libc.string cimport memset, strcmp, strncmp, strstr

import signal
import sys

from neverblock.engine.clock cimport now
from neverblock.watch.kernel cimport Call, about, call_of
from neverblock.watch.memory import close_guard, open_guard
from neverblock.watch.walker cimport (
    PyThreadState, Stack, copy, known, lines_of, same, walk,
)

cdef extern from "watch/asked.h" nogil:
    int nb_install(int signum, void (*answer)() noexcept nogil) noexcept
    int nb_uninstall(int signum) noexcept
    int nb_ask(int thread, int signum, int milliseconds) noexcept
    void nb_forget() noexcept
    int nb_thread_id() noexcept

cdef extern from "Python.h" nogil:
    PyThreadState *PyThreadState_Get()
    PyThreadState *PyGILState_GetThisThreadState()

cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <sched.h>
    static pthread_mutex_t nb_sampling = PTHREAD_MUTEX_INITIALIZER;
    static void nb_sampling_begin(void) { pthread_mutex_lock(&nb_sampling); }
    static void nb_sampling_end(void) { pthread_mutex_unlock(&nb_sampling); }
    static void nb_sampling_anew(void) { pthread_mutex_init(&nb_sampling, NULL); }
    static void nb_moment(long nanoseconds) {
        struct timespec time = {0, nanoseconds};
        nanosleep(&time, NULL);
    }
    """
    void nb_sampling_begin() noexcept
    void nb_sampling_end() noexcept
    void nb_sampling_anew() noexcept
    void nb_moment(long nanoseconds) noexcept
    int sched_yield() noexcept

cdef extern from "Python.h":
    int PySys_AddAuditHook(
        int (*hook)(const char *, PyObject *, void *) noexcept, void *data) except -1

cdef enum:
    NAMES = 512         # functions that are told apart by count_samples()

#: For how long after an exec that may have failed, seconds.
cdef double QUIET = 1.0
cdef int signum = 0         # 0: not in use
cdef int users = 0
#: Nobody is signalled before this, CLOCK_MONOTONIC, seconds: a program is about to take over.
cdef double quiet_until = 0
cdef bint heeds_exec = False
#: Where walks write, each under the lock.
cdef Stack found, again


def free_signal():
    """A real-time signal that nobody handles. Raises RuntimeError where there is none."""
    for number in range(signal.SIGRTMIN + 8, signal.SIGRTMAX):
        if signal.getsignal(number) is signal.SIG_DFL:
            return number
    raise RuntimeError(
        "every real-time signal is taken: name one for the watch with Watch(signal=…), "
        "or do without with Watch(signal=None)")


def check(int number):
    """Raises ValueError for a signal that somebody else handles."""
    if number != signum and signal.getsignal(number) is not signal.SIG_DFL:
        raise ValueError(
            f"signal {number} has a handler already: the watch needs one of its own; "
            f"with Watch(signal=0) it takes one that is free")


def acquire(int number, guard=""):
    """Sample by that signal from now on; 0: any free one. The first caller's choice holds.

    Callers of acquire() and release() take turns. Raises ValueError for one that is handled,
    RuntimeError where none is free, OSError where the system lets nobody read memory with care,
    NotImplementedError where this Python's frames are not known.
    """
    global signum, users
    if signum == 0:
        number = number or free_signal()
        check(number)
        open_guard(guard)
        try:
            if not known():
                raise NotImplementedError("the frames of this Python are not known")
            check_layout(own_lines(), sys._getframe())
        except BaseException:
            close_guard()
            raise
        heed_exec()
        nb_install(number, answer)
        signum = number
    users += 1
    return signum


cdef int heed_exec() except -1:
    """A signal on its way to a thread that calls execve(2) would end what takes over."""
    global heeds_exec
    if not heeds_exec:
        heeds_exec = True
        PySys_AddAuditHook(on_audit, NULL)
    return 0


cdef int on_audit(const char *event, PyObject *arguments, void *data) noexcept:
    global quiet_until
    if signum and strcmp(event, b"os.exec") == 0:
        with nogil:
            nb_sampling_begin()     # whoever was asked has answered
            quiet_until = now() + QUIET
            nb_sampling_end()
    return 0


def check_layout(lines, frame):
    """Raises NotImplementedError where a walk does not find what Python says is there."""
    cdef int deep = 0
    while frame is not None and deep < 10:
        code = frame.f_code
        if deep >= len(lines) or (
                lines[deep][0], lines[deep][1], lines[deep][4]
        ) != (code.co_filename, frame.f_lineno or 0, code.co_qualname):
            raise NotImplementedError(
                f"the frames of this Python ({sys.implementation.name} {sys.version.split()[0]}) "
                f"are not where they are expected")
        frame = frame.f_back
        deep += 1


def release():
    """The last one to call it gives the signal back."""
    global users
    users -= 1
    if users == 0:
        with nogil:
            nb_sampling_begin()     # a sample may be under way
        stop()
        nb_sampling_end()


cdef int stop() except -1:
    global signum
    cdef int number = signum
    signum = 0
    nb_uninstall(number)
    close_guard()
    return 0


def abandon():
    """In a forked child: nobody samples here, and no lock of the parent's is ever opened."""
    global users
    nb_sampling_anew()
    nb_forget()
    if users:
        users = 0
        stop()


cdef void answer() noexcept nogil:
    """In the thread that was asked, in the handler of the signal."""
    walk(PyGILState_GetThisThreadState(), &found)


cdef bint sample(
        int thread, const PyThreadState *state, Stack *into, int milliseconds) noexcept nogil:
    cdef bint had = False
    into.count = 0
    nb_sampling_begin()
    if signum:
        had = (
            of_waiting(thread, state)
            or (hears(thread) and nb_ask(thread, signum, milliseconds))
            or of_still(state))
        if had:
            copy(into, &found)
    nb_sampling_end()
    return had and into.count > 0


cdef bint of_waiting(int thread, const PyThreadState *state) noexcept nogil:
    """Of a thread that is in one system call, before and after."""
    cdef Call before, after
    if state is NULL:
        return False
    memset(&before, 0, sizeof(Call))
    memset(&after, 0, sizeof(Call))
    call_of(thread, &before)
    if before.number < 0:
        return False
    walk(state, &found)
    call_of(thread, &after)
    return (
        after.number == before.number and after.stack == before.stack
        and after.arguments[0] == before.arguments[0]
        and after.arguments[1] == before.arguments[1])


cdef bint of_still(const PyThreadState *state) noexcept nogil:
    if state is NULL:
        return False
    walk(state, &again)
    nb_moment(1_000_000)
    walk(state, &found)
    return same(&found, &again)


cdef bint hears(int thread) noexcept nogil:
    """Whether it can be asked by signal: where that is blocked, one more would only queue up; where
    it is traced, the signal is the tracer's."""
    cdef int look
    if now() < quiet_until:
        return False
    for look in range(20):
        if reachable(thread):
            return True
        # The answer before this one may have come from a handler that has not returned yet.
        if look < 2:
            sched_yield()
        else:
            nb_moment(50_000)
    return False


cdef bint reachable(int thread) noexcept nogil:
    cdef char[2048] text
    cdef unsigned long long blocked = 0, pending = 0
    cdef const char *place
    cdef int tracer = 0
    if about(thread, "status", text, sizeof(text)) <= 0:
        return False
    place = strstr(text, "TracerPid:")
    if place is not NULL:
        sscanf(place, "TracerPid: %d", &tracer)
    if tracer:
        return False
    place = strstr(text, "SigPnd:")
    if place is not NULL:
        sscanf(place, "SigPnd: %llx", &pending)
    place = strstr(text, "SigBlk:")
    if place is not NULL:
        sscanf(place, "SigBlk: %llx", &blocked)
    return ((blocked | pending) >> (signum - 1) & 1) == 0


cdef int own_thread() noexcept nogil:
    return nb_thread_id()


def own_lines():
    """The calling thread's own stack: file, line, columns, function, whether a coroutine's."""
    cdef const PyThreadState *state = PyThreadState_Get()
    cdef Stack stack
    with nogil:
        nb_sampling_begin()
        walk(state, &found)
        copy(&stack, &found)
        nb_sampling_end()
    return lines_of(&stack)


def lines(int thread):
    """The stack of the thread with that id, [] where there is none to be had."""
    cdef Stack stack
    with nogil:
        sample(thread, NULL, &stack, 100)
    return lines_of(&stack)


def count_samples(int thread, long count):
    """Sample a thread that often by signal, as fast as it answers, without the GIL.

    How often each function was the innermost, by name; "": there was no stack. For tests.
    """
    cdef Stack stack
    cdef char[NAMES][64] names
    cdef long[NAMES] counts
    cdef const char *name
    cdef int used = 0, i
    with nogil:
        while count > 0:
            count -= 1
            sample(thread, NULL, &stack, 100)
            name = ""
            if stack.count:
                name = &stack.text[stack.lines[0].function]
            for i in range(used):
                if strncmp(names[i], name, 63) == 0:
                    counts[i] += 1
                    break
            else:
                if used < NAMES:
                    snprintf(names[used], 64, "%s", name)
                    counts[used] = 1
                    used += 1
    return {(<bytes> names[i]).decode("utf-8", "replace"): counts[i] for i in range(used)}
