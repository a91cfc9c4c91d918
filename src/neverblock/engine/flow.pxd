# Flow control: when a protocol is told to stop writing, and when to go on (PEP 3156).

cdef struct WaterMarks:
    Py_ssize_t high         # bytes waiting: above it the protocol is paused
    Py_ssize_t low          # at it or below, it is resumed
    bint paused


cdef int set_marks(WaterMarks *self, object high, object low) except -1
cdef int pause_if_high(
    WaterMarks *self, Py_ssize_t size, object loop, object transport, object protocol) except -1
cdef int resume_if_low(
    WaterMarks *self, Py_ssize_t size, object loop, object transport, object protocol) except -1
