"""Stacks of threads, also of one that holds the GIL: each writes its own down when signalled.

- The signal is one for the whole process, a free real-time signal: handlers of the user's are
  left alone. faulthandler's handler does the walking, in the thread whose stack it is.
- What is written goes through a pipe that never blocks. One sample at a time, by a lock that
  is only ever taken without the GIL.
- A forked child has no watch: it gives the signal back and closes its copy of the pipe.
"""

from posix.unistd cimport read

import faulthandler
import os
import signal

cdef extern from "watch/signal_dump.h" nogil:
    int nb_dump_install(int signum) noexcept
    int nb_dump_uninstall(int signum) noexcept
    int nb_dump_request(int thread, int signum, int milliseconds) noexcept
    void nb_dump_forget() noexcept
    int nb_thread_id() noexcept

cdef extern from * nogil:
    """
    #include <pthread.h>
    static pthread_mutex_t nb_sampling = PTHREAD_MUTEX_INITIALIZER;
    static void nb_sampling_begin(void) { pthread_mutex_lock(&nb_sampling); }
    static void nb_sampling_end(void) { pthread_mutex_unlock(&nb_sampling); }
    static void nb_sampling_anew(void) { pthread_mutex_init(&nb_sampling, NULL); }
    """
    void nb_sampling_begin() noexcept
    void nb_sampling_end() noexcept
    void nb_sampling_anew() noexcept

cdef int signum = 0         # 0: not in use
cdef int output = -1        # where the pipe is read
cdef int entry = -1
cdef int users = 0


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


def acquire(int number):
    """Sample by that signal from now on; 0: any free one. The first caller's choice holds.

    Callers of acquire() and release() take turns. Raises ValueError for one that is handled,
    RuntimeError where none is free, OSError where there are no descriptors for a pipe.
    """
    global signum, output, entry, users
    users += 1
    if signum:
        return signum
    try:
        number = number or free_signal()
        check(number)
        output, entry = os.pipe()
        os.set_blocking(output, False)
        os.set_blocking(entry, False)
        faulthandler.register(number, file=entry, all_threads=False, chain=False)
    except BaseException:
        users -= 1
        close_pipe()
        raise
    nb_dump_install(number)
    signum = number
    return signum


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
    nb_dump_uninstall(number)
    faulthandler.unregister(number)
    return close_pipe()


cdef int close_pipe() except -1:
    global output, entry
    cdef int one = output, other = entry
    output = entry = -1
    if one >= 0:
        os.close(one)
        os.close(other)
    return 0


def abandon():
    """In a forked child: nobody samples here, and no lock of the parent's is ever opened."""
    global users
    nb_sampling_anew()
    nb_dump_forget()
    if users:
        users = 0
        stop()


def samples(int thread, long count):
    """Sample a thread that often, as fast as it answers; how many stacks came. For tests."""
    cdef char[16384] stack
    cdef long had = 0
    with nogil:
        while count > 0:
            count -= 1
            had += dump_of(thread, stack, sizeof(stack), 100) > 0
    return had


cdef int dump_of(int thread, char *into, int room, int milliseconds) noexcept nogil:
    cdef ssize_t size = 0, got
    into[0] = 0
    nb_sampling_begin()
    if signum:
        while read(output, into, room) > 0:     # of a sample that was given up
            pass
        if nb_dump_request(thread, signum, milliseconds):
            while size < room - 1:
                got = read(output, into + size, room - 1 - size)
                if got <= 0:
                    break
                size += got
    nb_sampling_end()
    into[size] = 0
    return <int> size


cdef int own_thread() noexcept nogil:
    return nb_thread_id()
