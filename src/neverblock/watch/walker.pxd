# A thread's Python frames, read without trust. The rules are in walker.pyx.

cdef extern from "Python.h" nogil:
    ctypedef struct PyThreadState:
        pass

cdef enum:
    DEPTH = 100             # lines of a stack, from the innermost
    TEXT = 6144             # bytes of their names

cdef struct Line:
    const void *code        # where the code object was: to compare by, and nothing else
    int at                  # the instruction, in bytes
    int number              # 0: none is known
    int column, end_column  # bytes of UTF-8 from 0; -1: not known
    short file, function    # where their names begin in the text
    bint coroutine

cdef struct Stack:
    int count
    int used                # bytes of the text; those of a name end with a zero
    bint whole              # down to the thread's first frame
    Line[DEPTH] lines
    char[TEXT] text

# Whether this Python's frames are.
cdef bint known() noexcept nogil
# One at a time. `state` is not trusted either.
cdef void walk(const PyThreadState *state, Stack *into) noexcept nogil
cdef bint same(const Stack *one, const Stack *other) noexcept nogil
cdef void copy(Stack *into, const Stack *stack) noexcept nogil
# For Python: (file, line, column, end column, function, whether a coroutine's) of each line.
cdef list lines_of(const Stack *stack)
