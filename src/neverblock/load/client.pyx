"""A connection that asks and measures, whatever the protocol; and what all of a process share.

- Loop thread alone. A client is the protocol of one transport, from connection_made() until it is
  not `alive` any more; then its keeper was told, once.
- Every request ends in one of two ways: it is answered and its latency recorded, or it counts as
  an error of some kind. None does both, none is lost.
- Closed loop: a request is due when the connection can send it. Open loop: the clock alone says
  when request N is due; what is due while all connections are busy is sent when one is free, and
  its latency counts from when it was due.
- Answers come in the order of the requests.
- All answers that are there are read, and their time taken, before the next requests are sent: a
  send takes longer than a look at the clock, and is not the server's time.
"""

from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.math cimport llround, sqrt

from neverblock.load.recorder cimport Recorder, clock

from neverblock.load import kinds

cdef long long NEVER = 1 << 62


cdef class Meter:
    """What all clients of a process share: the clock of requests, and what came of them.

    ``rate`` is requests a second of all processes together, None in a closed loop; this process
    sends every ``processes``-th of them, from ``index`` on.
    """

    def __init__(self, call_soon, call_at, rate, double ramp, int index, int processes):
        self.latency = Recorder()
        self.late = Recorder()
        self.errors = {}
        self.examples = {}
        self.opens = self.closes = self.next_due = NEVER
        self.rate = (rate or 0) * 1e-9
        self.ramp = ramp * 1e9
        self.first = index
        self.step = processes
        self.waiting = deque()
        self.call_at = call_at
        self.ticking = self.tick
        self.answered_now = []
        self.call_soon = call_soon
        self.going_on = self.go_on

    @property
    def open_loop(self):
        """Whether requests are due by the clock."""
        return self.rate > 0

    def start(self, long long began, long long opens, long long closes):
        """Let requests be due from ``began`` until ``closes``, and be measured from ``opens`` on.

        Nanoseconds of the monotonic clock.
        """
        self.began = began
        self.opens = opens
        self.closes = closes
        self.next_due = self.due_of(0)
        self.started = True

    def close(self, long long now):
        """Let no request be due any more."""
        self.closes = min(self.closes, now)

    cdef long long due_of(self, long long number) noexcept:
        cdef double count = self.first + self.step * number
        cdef double grown
        if self.rate == 0:
            return NEVER
        # The rate grows evenly: half of what is due in that time at full rate is due in it.
        grown = self.rate * self.ramp / 2
        if count < grown:
            return self.began + llround(sqrt(2 * self.ramp * count / self.rate))
        return self.began + llround(self.ramp + (count - grown) / self.rate)

    cdef long long take(self, long long now) noexcept:
        """When the request that is to be sent now was due; 0: none is."""
        cdef long long due
        if self.rate == 0:
            return now if self.started and now < self.closes else 0
        due = self.next_due
        if due > now or due >= self.closes:
            return 0
        self.number += 1
        self.next_due = self.due_of(self.number)
        return due

    cdef void record(self, long long due, long long now) noexcept:
        self.total += 1
        if self.opens <= now < self.closes:
            self.answered += 1
        if due >= self.opens:
            self.latency.record(now - due)

    cdef int rest(self, Client client) except -1:
        """A client has nothing to do before the next request is due."""
        client.resting = True
        self.waiting.append(client)
        self.arm()
        return 0

    def arm(self):
        """Be called when the next request is due, if a client waits for it."""
        if not self.armed and self.waiting and self.next_due < self.closes:
            self.armed = True
            self.call_at(self.next_due * 1e-9, self.ticking)

    def tick(self):
        """Send what is due by clients that wait for it."""
        cdef Client client
        cdef long long now = clock()
        self.armed = False
        while self.waiting and self.next_due <= now and self.next_due < self.closes:
            client = self.waiting.popleft()
            client.resting = False
            client.fill(now, True)
        self.arm()

    cdef int soon(self, Client client) except -1:
        """Let a client send what it may, once all answers that are there have been read."""
        if not client.queued:
            client.queued = True
            self.answered_now.append(client)
            if len(self.answered_now) == 1:
                self.call_soon(self.going_on)
        return 0

    def go_on(self):
        """Send for all who had an answer."""
        cdef Client client
        clients, self.answered_now = self.answered_now, []
        for client in clients:
            client.queued = False
            client.fill(clock(), False)

    def fail(self, str kind, str detail="", long long count=1):
        """Count errors; the first of each kind is kept as an example."""
        self.failures += count
        self.errors[kind] = self.errors.get(kind, 0) + count
        if detail and kind not in self.examples:
            self.examples[kind] = detail

    def unsent(self):
        """How many requests were due by now, or will be, that no client has sent."""
        cdef long long low = self.number, high = self.number + 1
        if self.rate == 0 or self.next_due >= self.closes:
            return 0
        while self.due_of(high) < self.closes:
            low, high = high, high + 2 * (high - self.number)
        while high - low > 1:
            middle = (low + high) // 2
            if self.due_of(middle) < self.closes:
                low = middle
            else:
                high = middle
        return high - self.number


cdef class Client:
    """One connection: the protocol of its transport."""

    def __cinit__(self, Meter meter not None, keeper, int depth, *args):
        self.meter = meter
        self.keeper = keeper
        self.depth = depth
        self.dues = <long long *> PyMem_Malloc(depth * sizeof(long long))
        if self.dues is NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.dues)

    # What a protocol has to say

    cdef bytes requests(self, int count):
        """The next requests."""
        raise NotImplementedError

    cdef bint consume(self, const char *data, Py_ssize_t size, long long now) except -1:
        """Look at what came; whether the connection is still of use."""
        raise NotImplementedError

    cdef bint ended(self, long long now) except -1:
        """The server has sent its last; whether that is as it should be."""
        return False

    # What it may call

    cdef long long pop(self, long long now) noexcept:
        cdef long long due = self.dues[self.head]
        self.head += 1
        if self.head == self.depth:
            self.head = 0
        self.in_flight -= 1
        self.since = now
        self.answers += 1
        return due

    cdef int right(self, long long now) except -1:
        """The oldest request has its answer."""
        self.meter.record(self.pop(now), now)
        return 0

    cdef int refused(self, long long now, str kind, str detail) except -1:
        """The oldest request was answered by an error."""
        self.pop(now)
        self.meter.fail(kind, detail)
        return 0

    cdef bint wrong(self, str detail) except -1:
        """What came is no answer to what was asked: the connection is of no more use."""
        self.over(kinds.WRONG, detail)
        return False

    cdef int over(self, str kind, str detail) except -1:
        """Count what is in flight as errors, and let go of the connection."""
        if not self.alive:
            return 0
        self.meter.fail(kind, detail, max(self.in_flight, 1))
        self.let_go()
        self.keeper.lost(self)
        return 0

    # The transport's side

    def connection_made(self, transport):
        if self.gone:
            transport.abort()
            return
        self.transport = transport
        self.write = transport.write
        # What is written leaves at once, so that it is not measured too early.
        transport.set_write_buffer_limits(high=0)
        self.alive = True

    def data_received(self, bytes data not None):
        cdef long long now
        if not self.alive:
            return
        now = clock()
        self.meter.received += PyBytes_GET_SIZE(data)
        if self.consume(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), now):
            if self.last:
                self.hang_up()
            else:
                self.meter.soon(self)

    def eof_received(self):
        if self.alive and self.ended(clock()):
            self.hang_up()

    def connection_lost(self, error):
        kind = kinds.CLOSED if error is None else kinds.kind_of(error)
        self.over(kind, "" if error is None else str(error))

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass

    # The keeper's side

    def go(self):
        """Send what may be sent."""
        self.fill(clock(), False)

    def look(self, long long now, long long patience):
        """End it if it has waited for an answer for more than that many nanoseconds."""
        if self.alive and self.in_flight and now - self.since > patience:
            self.over(kinds.TIMEOUT, f"no answer within {patience * 1e-9:g} s")

    def give_up(self):
        """Count what is in flight as not answered in time, and end."""
        if self.alive and self.in_flight:
            self.meter.fail(kinds.TIMEOUT, "no answer by the end", self.in_flight)
        self.let_go()

    def let_go(self):
        """End it, also if it is only being opened; nobody is told."""
        self.alive = False
        self.gone = True
        self.in_flight = 0
        if self.transport is not None:
            self.transport.abort()
            self.transport = self.write = None

    cdef int fill(self, long long now, bint rested) except -1:
        cdef long long due
        cdef int count = 0, place
        cdef Meter meter = self.meter
        cdef bytes data
        if not self.alive:
            return 0
        while self.in_flight < self.depth:
            due = meter.take(now)
            if due == 0:
                break
            if rested:
                meter.late.record(now - due)
            place = self.head + self.in_flight
            self.dues[place - self.depth if place >= self.depth else place] = due
            self.in_flight += 1
            count += 1
        if count:
            if self.in_flight == count:
                self.since = now
            data = self.requests(count)
            meter.sent += PyBytes_GET_SIZE(data)
            self.write(data)
        if meter.rate != 0 and self.in_flight < self.depth and not self.resting:
            meter.rest(self)
        return 0

    def hang_up(self):
        """The server closes, as it said it would."""
        if self.in_flight:
            self.over(kinds.CLOSED, "requests were in flight that were sent before it said so")
        else:
            self.let_go()
            self.keeper.lost(self)
