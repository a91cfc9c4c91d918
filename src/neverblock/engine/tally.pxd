# Which callbacks took the time of one long turn. The rules are in tally.pyx.

cdef enum:
    SETS = 16
    WAYS = 4
    LONGEST_NAME = 48

cdef struct Entry:
    void *owner             # an owned reference: a code object or a class; NULL: free
    const void *method      # of a class: a C method of it; NULL: it was called itself
    char[LONGEST_NAME] name     # the method's; a copy, for its module may free it
    unsigned long long count
    double total            # seconds
    double longest

cdef class Tally:
    cdef Entry[SETS * WAYS] entries
    cdef Entry rest         # what was too little to keep apart
    cdef double turn        # when it began: its name; 0: none
    cdef double timed       # since when its callbacks are timed
    cdef double length      # of the turn, in seconds; 0: it goes on
    cdef unsigned long long callbacks       # of the turn; 0: it goes on

    cdef void begin(self, double turn, double moment) noexcept
    cdef void add(self, object owner, const void *method, double took) noexcept
    cdef void end(self, double turn, double length, unsigned long long callbacks) noexcept
    cdef void clear(self) noexcept


# What a piece of work is counted under: a code object, or a class and a C method of it.
cdef object owner_of(object work, const void **method)
