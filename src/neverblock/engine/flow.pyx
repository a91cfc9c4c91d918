"""Flow control: when a protocol is told to stop writing, and when to go on (PEP 3156).

The protocol may do anything when told: its transport is looked at again afterwards.
"""

cdef enum:
    HIGH = 64 * 1024


cdef int set_marks(WaterMarks *self, object high, object low) except -1:
    if high is None:
        high = HIGH if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    self.high = high
    self.low = low
    return 0


cdef int pause_if_high(
        WaterMarks *self, Py_ssize_t size, object loop, object transport,
        object protocol) except -1:
    if size <= self.high or self.paused:
        return 0
    self.paused = True
    try:
        protocol.pause_writing()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        loop.call_exception_handler({
            "message": "protocol.pause_writing() failed",
            "exception": error,
            "transport": transport,
            "protocol": protocol,
        })
    return 0


cdef int resume_if_low(
        WaterMarks *self, Py_ssize_t size, object loop, object transport,
        object protocol) except -1:
    if not self.paused or size > self.low:
        return 0
    self.paused = False
    try:
        protocol.resume_writing()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        loop.call_exception_handler({
            "message": "protocol.resume_writing() failed",
            "exception": error,
            "transport": transport,
            "protocol": protocol,
        })
    return 0
