# A JSON object (RFC 8259), written into memory of a fixed size without the GIL.
#
# - What does not fit is left out: a string is cut at a character, a member that has no room is not
#   begun, so that whatever stands there can be read.
# - Bytes that are no UTF-8 become U+FFFD.
# - A number is written by integers alone: in the program's locale a comma may stand for the point
#   (setlocale(3)).

from libc.stdio cimport snprintf
from libc.string cimport memcpy, strlen

cdef enum:
    ROOM = 8192             # bytes of an object
    LONGEST = 6             # of a character: \u00ff
    END = 8                 # kept free for what closes a string and the object

cdef struct Object:
    int used
    char[ROOM] text


# Bytes of the character there, or 0: it is none.
cdef inline int length_of(const unsigned char *at) noexcept nogil:
    cdef int size, i
    if at[0] < 0x80:
        return 1
    if 0xC2 <= at[0] < 0xE0:
        size = 2
    elif 0xE0 <= at[0] < 0xF0:
        size = 3
    elif 0xF0 <= at[0] < 0xF5:
        size = 4
    else:
        return 0
    for i in range(1, size):
        if at[i] & 0xC0 != 0x80:
            return 0
    # Overlong, a surrogate, or past U+10FFFF.
    if (at[0] == 0xE0 and at[1] < 0xA0) or (at[0] == 0xED and at[1] >= 0xA0) or (
            at[0] == 0xF0 and at[1] < 0x90) or (at[0] == 0xF4 and at[1] >= 0x90):
        return 0
    return size


cdef inline void put(Object *self, const void *bytes, int size) noexcept nogil:
    memcpy(&self.text[self.used], bytes, size)
    self.used += size


cdef inline void put_string(Object *self, const char *text) noexcept nogil:
    cdef const unsigned char *at = <const unsigned char *> text
    cdef char[LONGEST + 1] escaped
    cdef int size
    put(self, b'"', 1)
    while at[0] and self.used + LONGEST + END <= ROOM:
        size = length_of(at)
        if size == 0:
            put(self, b"\\ufffd", 6)
            size = 1
        elif at[0] == c'"' or at[0] == c"\\":
            put(self, b"\\", 1)
            put(self, at, 1)
        elif at[0] < 0x20:
            snprintf(escaped, sizeof(escaped), b"\\u%04x", <unsigned int> at[0])
            put(self, escaped, 6)
        else:
            put(self, at, size)
        at += size
    put(self, b'"', 1)


# Whether there is room for a member of that name.
cdef inline bint put_name(Object *self, const char *name) noexcept nogil:
    if self.used + 2 * <int> strlen(name) + 32 + END > ROOM:
        return False
    put(self, b"{" if self.used == 0 else b", ", 1 if self.used == 0 else 2)
    put_string(self, name)
    put(self, b": ", 2)
    return True


cdef inline void add_string(Object *self, const char *name, const char *text) noexcept nogil:
    if put_name(self, name):
        put_string(self, text)


cdef inline void add_number(Object *self, const char *name, long long value) noexcept nogil:
    if put_name(self, name):
        self.used += snprintf(&self.text[self.used], 24, b"%lld", value)


# To the microsecond.
cdef inline void add_seconds(Object *self, const char *name, double value) noexcept nogil:
    cdef long long microseconds = <long long> (max(value, 0.0) * 1e6 + 0.5)
    if put_name(self, name):
        self.used += snprintf(
            &self.text[self.used], 24, b"%lld.%06lld",
            microseconds // 1000000, microseconds % 1000000)


cdef inline void add_false(Object *self, const char *name) noexcept nogil:
    if put_name(self, name):
        put(self, b"false", 5)


cdef inline void close_line(Object *self) noexcept nogil:
    put(self, b"}\n", 2)
