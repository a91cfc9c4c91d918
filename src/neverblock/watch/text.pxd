# What can be said of a stack without the GIL: the line in it that is the program's.

from libc.stdio cimport FILE, fclose, fopen
from libc.stdlib cimport free
from libc.string cimport memcpy, strcmp, strlen, strncmp

from neverblock.watch.walker cimport Line, Stack

cdef extern from "<stdio.h>" nogil:
    ssize_t getline(char **line, size_t *room, FILE *stream)

cdef enum:
    NAME = 512


cdef inline bint begins(const char *text, const char *prefix) noexcept nogil:
    return strncmp(text, prefix, strlen(prefix)) == 0


cdef inline const char *file_of(const Stack *stack, int line) noexcept nogil:
    return &stack.text[stack.lines[line].file]


cdef inline const char *function_of(const Stack *stack, int line) noexcept nogil:
    return &stack.text[stack.lines[line].function]


# How many of its lines are the callback's: those that stand on a frame of the loop's own.
# `outermost` holds the functions that such frames are of, each a file and a qualified name, both
# with a zero, the last empty.
cdef inline int height(const Stack *stack, const char *outermost) noexcept nogil:
    cdef const char *file
    cdef const char *function
    cdef int i
    for i in range(stack.count):
        file = outermost
        while file[0]:
            function = file + strlen(file) + 1
            if (strcmp(file_of(stack, i), file) == 0
                    and strcmp(function_of(stack, i), function) == 0):
                return i
            file = function + strlen(function) + 1
    return stack.count


# The innermost line of the program's own in a callback's stack; else the innermost of all; -1:
# there is none.
# `library` holds prefixes of files that are not the program's, each with a zero, the last empty.
cdef inline int own_line(
        const Stack *stack, const char *library, const char *outermost) noexcept nogil:
    cdef const char *prefix
    cdef int i, all = height(stack, outermost)
    for i in range(all):
        prefix = library
        while prefix[0] and not begins(file_of(stack, i), prefix):
            prefix += strlen(prefix) + 1
        if prefix[0] == 0:
            return i
    return 0 if all else -1


# That line of its file, without the space around it.
cdef inline void source_line(const Stack *stack, int index, char *into) noexcept nogil:
    cdef FILE *stream = fopen(file_of(stack, index), "re")
    cdef char *text = NULL
    cdef char *start
    cdef char *end
    cdef size_t room = 0, size
    cdef int line = 0, wanted = stack.lines[index].number
    into[0] = 0
    if stream is NULL:
        return
    while line < wanted and getline(&text, &room, stream) >= 0:
        line += 1
    if line == wanted and line > 0:
        start = text
        while start[0] == c" " or start[0] == c"\t":
            start += 1
        end = start + strlen(start)
        while end > start and (end - 1)[0] <= c" " and (end - 1)[0] > 0:
            end -= 1
        size = min(<size_t> (end - start), <size_t> NAME - 1)
        memcpy(into, start, size)
        into[size] = 0
    free(text)
    fclose(stream)
