# asyncio.Transport as a base that compiled classes can extend. Why: transport_base.pyx.

cdef extern from *:
    """
    /* asyncio's class has these slots; the size is checked when it is imported. */
    #define NB_SLOTS 5
    typedef struct { PyObject_HEAD PyObject *slots[NB_SLOTS]; } NbAsyncioTransport;
    """
    ctypedef class asyncio.transports._FlowControlMixin [
            object NbAsyncioTransport, check_size error]:
        pass


cdef class TransportBase(_FlowControlMixin):
    pass
