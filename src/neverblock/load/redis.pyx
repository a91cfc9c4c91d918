"""Redis: PING, SET and GET, and a look at every reply (RESP2).

https://redis.io/docs/latest/develop/reference/protocol-spec

- What a key holds follows from its number, so that every process and connection knows what GET has
  to bring. All keys are set before a run.
- Replies are read as they come: a line may be cut anywhere, a value is compared piece by piece and
  never put together.
- An error reply is the server's word on one request; the connection goes on.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp

from neverblock.load.client cimport Client

from neverblock.load.pattern import pattern

cdef enum:
    VALUES = 251                # different values at most
    ROOM = 16 * 1024 * 1024     # bytes that all SETs may take together
    LONGEST_LINE = 64 * 1024
    PING = 0
    SET = 1
    GET = 2


def command(*words):
    """A command on the wire."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(w), w) for w in words])


cdef class Commands:
    """What all clients of a process ask, and what they have to get.

    ``weights`` are counts by name: ping, set, get. There are fewer keys than asked for where their
    values would not fit into memory.
    """

    cdef readonly Py_ssize_t size
    cdef readonly int keys
    cdef readonly int values
    cdef readonly bytes pattern
    cdef readonly list sets
    cdef readonly list gets
    cdef readonly bytes ping
    cdef readonly bytes turns       # which command is whose turn, again and again

    def __init__(self, Py_ssize_t size, int keys, dict weights):
        self.size = size
        self.keys = max(1, min(keys, ROOM // size))
        self.values = max(1, min(VALUES, self.keys))
        self.pattern = pattern(size, size + self.values - 1)
        names = [b"neverblock:load:%d:%d" % (size, key) for key in range(self.keys)]
        self.sets = [command(b"SET", name, self.value(i)) for i, name in enumerate(names)]
        self.gets = [command(b"GET", name) for name in names]
        self.ping = command(b"PING")
        self.turns = bytes(spread([weights.get(name, 0) for name in ("ping", "set", "get")]))

    def value(self, int key):
        """What a key holds."""
        start = key % self.values
        return self.pattern[start:start + self.size]


def spread(weights):
    """Numbers 0, 1, 2 … as often as their weights say, each as evenly as can be."""
    total = sum(weights)
    owed = [0] * len(weights)
    turns = []
    for _ in range(total):
        owed = [have + weight for have, weight in zip(owed, weights)]
        chosen = owed.index(max(owed))
        owed[chosen] -= total
        turns.append(chosen)
    return turns


cdef class Redis(Client):
    """Sends commands and checks the replies."""

    cdef Commands commands
    cdef const char *pattern
    cdef const unsigned char *turns
    cdef Py_ssize_t cycle
    cdef long long asked        # commands so far
    cdef long long told         # replies so far
    cdef bytes line             # the beginning of a line that is not there yet
    cdef Py_ssize_t left        # bytes of a value, its line end included, still to come; or 0
    cdef Py_ssize_t at          # and how many of it have come

    def __init__(self, meter, keeper, depth, Commands commands not None, long long first=0):
        self.commands = commands
        self.pattern = PyBytes_AS_STRING(commands.pattern)
        self.turns = <const unsigned char *> PyBytes_AS_STRING(commands.turns)
        self.cycle = len(commands.turns)
        self.asked = self.told = first
        self.line = b""

    cdef bytes next(self):
        cdef long long number = self.asked
        cdef int turn = self.turns[number % self.cycle]
        self.asked += 1
        if turn == PING:
            return self.commands.ping
        return <bytes> (self.commands.sets if turn == SET else self.commands.gets)[
            number % self.commands.keys]

    cdef bytes requests(self, int count):
        if count == 1:
            return self.next()
        return b"".join([self.next() for _ in range(count)])

    cdef bint consume(self, const char *data, Py_ssize_t size, long long now) except -1:
        cdef const char *end
        cdef Py_ssize_t length
        while size:
            if self.left:
                length = min(size, self.left)
                if not self.value(data, length):
                    return self.wrong("GET brought another value than was set")
                data += length
                size -= length
                if self.left == 0:
                    self.told += 1
                    self.right(now)
                continue
            end = <const char *> memchr(data, c"\n", size)
            length = size if end is NULL else end - data + 1
            if self.line or end is NULL:
                self.line += data[:length]
                if end is NULL:
                    if len(self.line) > LONGEST_LINE:
                        return self.wrong("a line of a reply has no end")
                    return True
                line, self.line = self.line, b""
                if not self.reply(
                        PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line), now):
                    return False
            elif not self.reply(data, length, now):
                return False
            data += length
            size -= length
        return True

    cdef bint reply(self, const char *line, Py_ssize_t size, long long now) except -1:
        """A line that begins a reply, and often is all of it; its end included."""
        cdef int turn
        if self.in_flight == 0:
            return self.wrong("a reply that nobody asked for")
        if size < 3 or line[size - 2] != c"\r":
            return self.wrong(f"no line of a reply: {line[:min(size, 60)]!r}")
        turn = self.turns[self.told % self.cycle]
        if line[0] == c"-":
            self.told += 1
            text = line[1:size - 2].decode("latin-1")
            self.refused(now, f"redis {text.split(' ')[0]}", text)
            return True
        if turn == GET:
            if line[0] == c"$" and line[1] == c"-":
                self.told += 1
                self.refused(now, "redis key gone", "GET found no value: evicted or expired")
                return True
            if line[0] == c"$" and line[1:size - 2] == b"%d" % self.commands.size:
                self.left = self.commands.size + 2
                self.at = 0
                return True
        elif line[:size] == (b"+PONG\r\n" if turn == PING else b"+OK\r\n"):
            self.told += 1
            self.right(now)
            return True
        asked = ("PING", "SET", "GET")[turn]
        return self.wrong(f"{asked} was answered by {line[:min(size - 2, 60)]!r}")

    cdef bint value(self, const char *data, Py_ssize_t length) noexcept:
        """Whether the next bytes of a value are right."""
        cdef Py_ssize_t size = self.commands.size, part = 0
        cdef long long key = self.told % self.commands.keys
        if self.at < size:
            part = min(length, size - self.at)
            if memcmp(self.pattern + key % self.commands.values + self.at, data, part) != 0:
                return False
        while part < length:
            if data[part] != (c"\r" if self.at + part == size else c"\n"):
                return False
            part += 1
        self.at += length
        self.left -= length
        return True
