"""What every transport does alike at its beginning and its end."""

from neverblock.engine.engine cimport Engine

import os
from asyncio.log import logger


cdef int begin(Engine loop, object transport, object protocol) except -1:
    try:
        protocol.connection_made(transport)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        tell(loop, transport, protocol, error, "protocol.connection_made() failed", False)
    return 0


cdef int resolve(object waiter) except -1:
    if waiter is not None and not waiter.cancelled():
        waiter.set_result(None)
    return 0


cdef int tell(
        Engine loop, object transport, object protocol, object error, object message,
        bint expected) except -1:
    if not expected:
        loop.call_exception_handler({
            "message": message,
            "exception": error,
            "transport": transport,
            "protocol": protocol,
        })
    elif loop._debug:
        logger.debug("%r: %s", transport, message, exc_info=error)
    return 0


cdef object error_of(Py_ssize_t negative_errno):
    return OSError(-negative_errno, os.strerror(-negative_errno))


cdef object check_bytes(object data):
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"data argument must be a bytes-like object, not {type(data).__name__!r}")
    return data
