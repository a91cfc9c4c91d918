"""Raw echo: a server sends back what it gets. Every byte of every answer is looked at.

Messages differ from one to the next, so that one that is lost, doubled or swapped is noticed.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.string cimport memcmp

from neverblock.load.client cimport Client

from neverblock.load.pattern import pattern

cdef enum:
    MOST = 251                  # different messages at most
    ROOM = 16 * 1024 * 1024     # bytes that they may take together


cdef class Messages:
    """Messages of a size that all clients of a process send in turn."""

    cdef readonly Py_ssize_t size
    cdef readonly int count
    cdef readonly bytes pattern
    cdef readonly list all

    def __init__(self, Py_ssize_t size):
        self.size = size
        self.count = max(1, min(MOST, ROOM // size))
        # Each message is a stretch of it.
        self.pattern = pattern(size, size + self.count - 1)
        self.all = [self.pattern[i:i + size] for i in range(self.count)]


cdef class Echo(Client):
    """Sends messages and wants them back."""

    cdef Messages messages
    cdef const char *pattern
    cdef int next               # message to send
    cdef int awaited            # message to come back,
    cdef Py_ssize_t at          # and how much of it has

    def __init__(self, meter, keeper, depth, Messages messages not None):
        self.messages = messages
        self.pattern = PyBytes_AS_STRING(messages.pattern)

    cdef bytes requests(self, int count):
        cdef list chosen
        cdef int i = self.next
        self.next = (i + count) % self.messages.count
        if count == 1:
            return <bytes> self.messages.all[i]
        chosen = []
        for _ in range(count):
            chosen.append(self.messages.all[i])
            i = (i + 1) % self.messages.count
        return b"".join(chosen)

    cdef bint consume(self, const char *data, Py_ssize_t size, long long now) except -1:
        cdef Py_ssize_t length
        while size:
            if self.in_flight == 0:
                return self.wrong(f"{size} bytes more than were sent")
            length = min(size, self.messages.size - self.at)
            if memcmp(self.pattern + self.awaited + self.at, data, length) != 0:
                return self.wrong("bytes came back that are not those that were sent")
            self.at += length
            data += length
            size -= length
            if self.at == self.messages.size:
                self.at = 0
                self.awaited = (self.awaited + 1) % self.messages.count
                self.right(now)
        return True
