# What can be said of a stack without the GIL: the line in it that is the program's.
#
# The stack is faulthandler's text: `  File "…", line N in name`, innermost first.

from libc.stdio cimport FILE, fclose, fopen, snprintf
from libc.stdlib cimport atoi, free
from libc.string cimport memcpy, strchr, strlen, strncmp, strstr

cdef extern from "<stdio.h>" nogil:
    ssize_t getline(char **line, size_t *room, FILE *stream)

cdef enum:
    NAME = 512

cdef struct Place:
    char[NAME] file
    char[NAME] function
    int line


cdef inline bint begins(const char *text, const char *prefix) noexcept nogil:
    return strncmp(text, prefix, strlen(prefix)) == 0


cdef inline void copy(char *into, const char *start, const char *end) noexcept nogil:
    cdef size_t size = min(<size_t> (end - start), <size_t> NAME - 1)
    memcpy(into, start, size)
    into[size] = 0


# Reads one line of the stack. Returns where the next begins; NULL: there is none.
cdef inline const char *read_place(const char *text, Place *place) noexcept nogil:
    cdef const char *start
    cdef const char *end
    cdef const char *next
    cdef const char *found
    while text is not NULL and text[0]:
        next = strchr(text, c"\n")
        start = strstr(text, 'File "')
        if next is NULL or start is NULL:
            return NULL
        if start < next:
            start += 6
            end = NULL
            found = strstr(start, '", line ')
            while found is not NULL and found < next:
                end = found
                found = strstr(found + 1, '", line ')
            if end is not NULL:
                copy(place.file, start, end)
                place.line = atoi(end + 8)
                found = strstr(end, " in ")
                if found is not NULL and found < next:
                    copy(place.function, found + 4, next)
                else:
                    place.function[0] = 0
                return next + 1
        text = next + 1
    return NULL


# The innermost place of the program's own in a callback's stack; else the innermost of all.
# `library` holds prefixes of files that are not the program's, each with a zero, the last empty;
# `outermost` is the file of the loop, whose frame the callback's stand on.
cdef inline bint find_place(
        const char *stack, const char *library, const char *outermost,
        Place *place) noexcept nogil:
    cdef Place other
    cdef const char *prefix
    cdef bint found = False
    while True:
        stack = read_place(stack, &other)
        if stack is NULL or (
                begins(other.file, outermost) and begins(other.function, "run_forever")):
            return found
        prefix = library
        while prefix[0] and not begins(other.file, prefix):
            prefix += strlen(prefix) + 1
        if not found or prefix[0] == 0:
            memcpy(place, &other, sizeof(Place))
            found = True
        if prefix[0] == 0:
            return True


# That line of a file, without the space around it.
cdef inline void source_line(Place *place, char *into) noexcept nogil:
    cdef FILE *stream = fopen(place.file, "re")
    cdef char *text = NULL
    cdef char *start
    cdef char *end
    cdef size_t room = 0
    cdef int line = 0
    into[0] = 0
    if stream is NULL:
        return
    while line < place.line and getline(&text, &room, stream) >= 0:
        line += 1
    if line == place.line and line > 0:
        start = text
        while start[0] == c" " or start[0] == c"\t":
            start += 1
        end = start + strlen(start)
        while end > start and (end - 1)[0] <= c" " and (end - 1)[0] > 0:
            end -= 1
        copy(into, start, end)
    free(text)
    fclose(stream)
