"""HTTP/1.1: GET with keep-alive, and as much of every response as tells where it ends (RFC 9112).

- Bodies are counted and thrown away, whether they have a length, come in chunks, or end with the
  connection. A status of 400 and above counts as an error of its own kind.
- Responses are read as they come: lines may be cut anywhere. A line ends with LF, and a CR before
  it belongs to the end (RFC 9112, 2.2).
- A response that cannot be understood ends the connection.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp

from neverblock.load.client cimport Client

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *one, const char *other, size_t size)

cdef enum:
    LONGEST_HEAD = 64 * 1024

# What comes next.
cdef enum Part:
    STATUS
    HEADER
    BODY                        # `left` bytes of it
    REST                        # as long as the connection lasts
    CHUNK_SIZE
    CHUNK                       # `left` bytes of it
    CHUNK_END
    TRAILER

cdef long long UNKNOWN = -1
cdef long long LONGEST = 1 << 60


cdef long long number_of(const char *text, Py_ssize_t size, int base) noexcept:
    """A number of plain digits; -1: it is none."""
    cdef long long value = 0
    cdef int digit
    cdef Py_ssize_t i
    if size == 0:
        return -1
    for i in range(size):
        if c"0" <= text[i] <= c"9":
            digit = text[i] - c"0"
        elif base == 16 and c"a" <= (text[i] | 0x20) <= c"f":
            digit = (text[i] | 0x20) - c"a" + 10
        else:
            return -1
        value = value * base + digit
        if value > LONGEST:
            return -1
    return value


cdef class Http(Client):
    """Sends GETs and counts the responses."""

    cdef bytes request
    cdef Part part
    cdef bytes line             # the beginning of a line that is not there yet
    cdef Py_ssize_t head        # bytes of this response's head so far
    cdef int status
    cdef bint old               # HTTP/1.0
    cdef bint closing           # the server will close after this response
    cdef bint keeping           # or has said that it will not
    cdef bint chunked
    cdef long long length       # of the body, where it was told
    cdef long long left

    def __init__(self, meter, keeper, depth, bytes request not None):
        self.request = request
        self.line = b""
        self.begin()

    cdef bytes requests(self, int count):
        return self.request if count == 1 else self.request * count

    cdef void begin(self) noexcept:
        self.part = STATUS
        self.head = 0
        self.closing = self.keeping = self.chunked = False
        self.length = UNKNOWN

    cdef bint consume(self, const char *data, Py_ssize_t size, long long now) except -1:
        cdef const char *end
        cdef Py_ssize_t length
        while size:
            if self.last:
                return True         # what comes after the last response is nobody's
            if self.part == REST:
                return True
            if self.part == BODY or self.part == CHUNK:
                length = min(<long long> size, self.left)
                self.left -= length
                data += length
                size -= length
                if self.left == 0:
                    if self.part == CHUNK:
                        self.part = CHUNK_END
                    else:
                        self.complete(now)
                continue
            end = <const char *> memchr(data, c"\n", size)
            length = size if end is NULL else end - data + 1
            self.head += length
            if self.head > LONGEST_HEAD:
                return self.wrong(f"a head of more than {LONGEST_HEAD} bytes")
            if self.line or end is NULL:
                self.line += data[:length]
                if end is NULL:
                    return True
                line, self.line = self.line, b""
                if not self.take(PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line) - 1, now):
                    return False
            elif not self.take(data, length - 1, now):
                return False
            data += length
            size -= length
        return True

    cdef bint take(self, const char *line, Py_ssize_t size, long long now) except -1:
        """A line, its LF not counted."""
        if size and line[size - 1] == c"\r":
            size -= 1
        if self.part == STATUS:
            return self.begins(line, size)
        if self.part == HEADER:
            return self.header(line, size) if size else self.body(now)
        if self.part == CHUNK_SIZE:
            return self.chunk(line, size)
        if self.part == CHUNK_END:
            self.part = CHUNK_SIZE
            self.head = 0
            return size == 0 or self.wrong("a chunk is longer than it says")
        if size == 0:
            self.complete(now)
        return True

    cdef bint begins(self, const char *line, Py_ssize_t size) except -1:
        if self.in_flight == 0:
            return self.wrong("a response that nobody asked for")
        if (size < 12 or memcmp(line, b"HTTP/1.", 7) != 0 or line[8] != c" "
                or (size > 12 and line[12] != c" ")):
            return self.wrong(f"no status line of HTTP/1.1: {line[:min(size, 60)]!r}")
        self.old = line[7] == c"0"
        self.status = <int> number_of(line + 9, 3, 10)
        if self.status < 100:
            return self.wrong(f"no status: {line[:min(size, 60)]!r}")
        self.part = HEADER
        return True

    cdef bint header(self, const char *line, Py_ssize_t size) except -1:
        cdef const char *colon = <const char *> memchr(line, c":", size)
        cdef const char *value
        cdef Py_ssize_t name, length
        cdef long long number
        if colon is NULL:
            return self.wrong(f"no header: {line[:min(size, 60)]!r}")
        name = colon - line
        value = colon + 1
        length = size - name - 1
        if name == 14 and strncasecmp(line, b"content-length", 14) == 0:
            while length and (value[0] == c" " or value[0] == c"\t"):
                value += 1
                length -= 1
            while length and (value[length - 1] == c" " or value[length - 1] == c"\t"):
                length -= 1
            number = number_of(value, length, 10)
            if number < 0 or (self.length >= 0 and self.length != number):
                return self.wrong(f"no length: {line[:min(size, 60)]!r}")
            self.length = number
        elif name == 17 and strncasecmp(line, b"transfer-encoding", 17) == 0:
            words = value[:length].lower().split(b",")
            if words[-1].strip() != b"chunked":
                return self.wrong(f"no encoding of ours: {line[:min(size, 60)]!r}")
            self.chunked = True
        elif name == 10 and strncasecmp(line, b"connection", 10) == 0:
            words = [word.strip() for word in value[:length].lower().split(b",")]
            self.closing = self.closing or b"close" in words
            self.keeping = self.keeping or b"keep-alive" in words
        return True

    cdef bint body(self, long long now) except -1:
        """The head is complete: what follows?"""
        if self.status < 200:
            if self.status == 101:
                return self.wrong("101: another protocol, which nobody asked for")
            self.begin()            # an interim response: the real one follows
            return True
        if self.old and not self.keeping:
            self.closing = True
        if self.status == 204 or self.status == 304:
            self.complete(now)
        elif self.chunked:
            self.part = CHUNK_SIZE
            self.head = 0
        elif self.length == 0:
            self.complete(now)
        elif self.length > 0:
            self.part = BODY
            self.left = self.length
        else:
            self.part = REST
        return True

    cdef bint chunk(self, const char *line, Py_ssize_t size) except -1:
        cdef const char *end = <const char *> memchr(line, c";", size)
        cdef Py_ssize_t digits = size if end is NULL else end - line
        while digits and (line[digits - 1] == c" " or line[digits - 1] == c"\t"):
            digits -= 1
        self.left = number_of(line, digits, 16)
        if self.left < 0:
            return self.wrong(f"no size of a chunk: {line[:min(size, 60)]!r}")
        self.part = CHUNK if self.left else TRAILER
        return True

    cdef int complete(self, long long now) except -1:
        self.last = self.closing
        if self.status >= 400:
            self.refused(now, f"HTTP {self.status}", "")
        else:
            self.right(now)
        self.begin()
        return 0

    cdef bint ended(self, long long now) except -1:
        if self.part != REST:
            return False
        self.closing = True
        self.complete(now)
        return True
