# How often, and for how long, each stack was found in one stall: in memory of a fixed size.
#
# - Where there are more stacks than places, the next are put down to one that stands at the same
#   line of the program's, else to all others.

from neverblock.watch.text cimport own_line
from neverblock.watch.walker cimport Stack, copy

cdef enum:
    STACKS = 24

cdef struct Tally:
    long count
    double seconds
    Stack stack             # of the others: empty

cdef struct Tallies:
    int used
    int last                # where the newest went; STACKS: to the others
    Tally[STACKS + 1] all


cdef inline void forget(Tallies *tallies) noexcept nogil:
    cdef Tally *others = &tallies.all[STACKS]
    tallies.used = 0
    tallies.last = STACKS
    others.count = 0
    others.seconds = 0
    others.stack.count = 0


cdef inline bint same_line(
        const Stack *one, int line, const Stack *other, int its_line) noexcept nogil:
    return (
        line >= 0 and its_line >= 0
        and one.lines[line].code is other.lines[its_line].code
        and one.lines[line].number == other.lines[its_line].number)


# Whether both stand at the same lines.
cdef inline bint alike(const Stack *one, const Stack *other) noexcept nogil:
    cdef int i
    if one.count != other.count:
        return False
    for i in range(one.count):
        if not same_line(one, i, other, i):
            return False
    return True


cdef inline int place_of(
        Tallies *tallies, const Stack *stack, const char *library,
        const char *outermost) noexcept nogil:
    cdef int i, line
    for i in range(tallies.used):
        if alike(&tallies.all[i].stack, stack):
            return i
    if tallies.used < STACKS:
        i = tallies.used
        tallies.used += 1
        tallies.all[i].count = 0
        tallies.all[i].seconds = 0
        copy(&tallies.all[i].stack, stack)
        return i
    line = own_line(stack, library, outermost)
    for i in range(tallies.used):
        if same_line(
                &tallies.all[i].stack, own_line(&tallies.all[i].stack, library, outermost),
                stack, line):
            return i
    return STACKS


cdef inline void count(
        Tallies *tallies, const Stack *stack, double seconds, const char *library,
        const char *outermost) noexcept nogil:
    cdef int place = place_of(tallies, stack, library, outermost)
    tallies.all[place].count += 1
    tallies.all[place].seconds += seconds
    tallies.last = place


# Time that nothing was found for: it goes where the newest went.
cdef inline void prolong(Tallies *tallies, double seconds) noexcept nogil:
    tallies.all[tallies.last].seconds += seconds
