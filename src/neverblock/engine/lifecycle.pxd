# What every transport does alike at its beginning and its end.

from neverblock.engine.engine cimport Engine

# connection_made(), whose failure is the exception handler's to hear of.
cdef int begin(Engine loop, object transport, object protocol) except -1
# The one who made the transport goes on.
cdef int resolve(object waiter) except -1
# An error that ends the transport: said to the exception handler, but that the network
# or the peer failed is no news.
cdef int tell(
    Engine loop, object transport, object protocol, object error, object message,
    bint expected) except -1
cdef object error_of(Py_ssize_t negative_errno)
cdef object check_bytes(object data)
