"""A loop that is not ours, seen from outside: does it answer, and where does it wait?

- The sentinel rings a bell, an eventfd(2) that the loop listens to like any descriptor; the
  loop's callback answers with a beat of a pulse. A loop that does not answer is stuck.
- Where the loop waits is learned: in a system call out of which the bell wakes it at once. While
  it is there it is not asked, so it sleeps for as long as it likes.
- join() and part() are for the loop's own thread, outside its callbacks; the bell is closed with
  the object, which its sentinel holds.
"""

from libc.stdint cimport uint64_t
from posix.unistd cimport close, read, write

from neverblock.engine.clock cimport now
from neverblock.engine.pulse cimport Pulse
from neverblock.multiplexers.base cimport Multiplexer
from neverblock.watch.kernel cimport Call

cdef extern from * nogil:
    """
    #include <sys/eventfd.h>
    #include <sys/syscall.h>

    static const long nb_waits[] = {
    #ifdef SYS_epoll_wait
        SYS_epoll_wait, SYS_poll, SYS_select,
    #endif
    #ifdef SYS_epoll_pwait2
        SYS_epoll_pwait2,
    #endif
        SYS_epoll_pwait, SYS_ppoll, SYS_pselect6, SYS_io_uring_enter, -1
    };
    """
    const long[1] nb_waits
    int EFD_CLOEXEC, EFD_NONBLOCK
    int eventfd(unsigned int count, int flags)


cdef class Outside:
    """The bell of one loop, and the pulse that its answers make."""

    def __cinit__(self):
        self.view.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.view.bell < 0:
            raise OSError("the watch has no descriptor for its bell: raise ulimit -n")
        self.view.home.number = -1
        self.pulse = Pulse(Multiplexer())

    def __dealloc__(self):
        if self.view.bell >= 0:
            close(self.view.bell)

    def join(self, loop):
        """Let the loop answer. What it was asked in a run before is no question any more."""
        self.pulse.others += 1
        loop.add_reader(self.view.bell, self.answer)

    def part(self, loop):
        """Let it answer no more."""
        if not loop.is_closed():
            loop.remove_reader(self.view.bell)

    def answer(self):
        cdef uint64_t count
        read(self.view.bell, &count, sizeof(count))
        self.pulse.others += 1


cdef bint at_home(View *view, Call *call) noexcept nogil:
    return call.number >= 0 and call.number == view.home.number and (
        call.arguments[0] == view.home.arguments[0])


cdef bint may_be_home(Call *call) noexcept nogil:
    cdef const long *number = nb_waits
    while number[0] >= 0:
        if call.number == number[0]:
            return True
        number += 1
    return False


cdef void ask(View *view, unsigned long long beat) noexcept nogil:
    cdef uint64_t one = 1
    if not view.rung or view.beat != beat:
        view.rung = True
        view.beat = beat
        view.at = now()
        write(view.bell, &one, sizeof(one))
