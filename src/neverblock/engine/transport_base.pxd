# asyncio.Transport as a base that compiled classes can extend. Why: transport_base.pyx.

cdef extern from *:
    """
    /* asyncio.BaseTransport has one slot; the size is checked when it is imported. */
    typedef struct { PyObject_HEAD PyObject *extra; } NbAsyncioTransport;
    """
    ctypedef class asyncio.transports.Transport [object NbAsyncioTransport, check_size error]:
        pass


cdef class TransportBase(Transport):
    pass
