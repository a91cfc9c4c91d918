# The contract of a multiplexer: ask the kernel which descriptors are ready.
#
# - Used by one thread at a time; only wait() gives up the GIL.
# - Owns no watched descriptor: closing one is its owner's work, after drop().
# - A descriptor is watched once: add, then change or drop. A mask is READ, WRITE
#   or both, never 0.
# - Hang-up and error are reported as READ and WRITE, kept to what was asked for,
#   as the standard library's selectors do.

from posix.time cimport timespec

cdef extern from * nogil:
    """
    #define nb_set_flag(flag, value) __atomic_store_n(flag, value, __ATOMIC_SEQ_CST)
    #define nb_load(place) __atomic_load_n(place, __ATOMIC_SEQ_CST)
    """
    void nb_set_flag(int *flag, int value) noexcept
    void *nb_load(void **place) noexcept

cdef enum:
    READ = 1            # selectors.EVENT_READ
    WRITE = 2           # selectors.EVENT_WRITE

cdef struct Event:
    int fd
    int mask            # READ, WRITE or both

# Whether a thread is in the kernel, for a watch on another thread. Waiting for the GIL after
# the call is not sleep: that is why it is kept where the GIL is not held.
cdef struct Sleep:
    int asleep
    void (*listener)(void *) noexcept nogil     # called when a sleep ends
    void *listening                             # its argument; NULL: nobody listens

cdef class Multiplexer:
    cdef Event *events          # what the last wait() found: valid until the next
    cdef Py_ssize_t capacity    # how many of them there is room for
    cdef readonly int limit     # the first descriptor that cannot be watched; -1: none
    cdef bint closed
    cdef bint waiting           # a thread is in the kernel with our arrays
    cdef Sleep sleep
    # counters behind statistics()
    cdef unsigned long long waits, handed_in, looked_at, events_out

    # EEXIST: watched already. ValueError: negative, past the limit, or a bad mask.
    cdef int add(self, int fd, int mask) except -1
    # ENOENT: not watched.
    cdef int change(self, int fd, int mask) except -1
    # A descriptor that is not watched, or was closed by its owner, is not an error.
    cdef int drop(self, int fd) except -1
    # Seconds; below 0: until something happens. Returns how many events there are.
    # A signal ends the wait with 0 events: the caller then runs signal handlers.
    cdef int wait(self, double timeout) except -1
    # Gives back what the multiplexer itself holds (an epoll descriptor, a ring). Idempotent.
    # Touches no watch, so a forked child may call it: the parent's goes on.
    cdef int release(self) except -1

# For the backends.

# Before a change: refuses a closed multiplexer, a bad descriptor or mask.
cdef int check(Multiplexer self, int fd, int mask) except -1
# For backends whose kernel side would take a descriptor that is not open: EBADF.
cdef int check_open(int fd) except -1
# Before the kernel is asked; the backend clears `waiting` after it was.
cdef int enter(Multiplexer self) except -1
# Makes room for that many events; those found before are forgotten.
cdef int reserve(Multiplexer self, Py_ssize_t room) except -1
# Around the system call. The order of flag and listener is total: either a listener that was set
# is called, or who set it saw that the sleep was over.
cdef inline void fall_asleep(Multiplexer self) noexcept nogil:
    nb_set_flag(&self.sleep.asleep, 1)

cdef inline void awake(Multiplexer self) noexcept nogil:
    cdef void *listening
    nb_set_flag(&self.sleep.asleep, 0)
    listening = nb_load(&self.sleep.listening)
    if listening is not NULL:
        self.sleep.listener(listening)

# The one place where the kernel's errno becomes an OSError.
cdef int fail(int error) except -1
# NULL: no end. Rounded up to a nanosecond, so that a wait never ends early.
cdef timespec *interval(double timeout, timespec *into) noexcept nogil
