"""asyncio.Transport as a base that compiled classes can extend.

asyncio.Transport is made in Python: its deallocator and its visitor look for the first
class below the object's own that was not, find ours, and call it; ours calls its base's:
a circle. TransportBase ends it with slots of its own, which do what little an
asyncio.Transport needs: make, visit, clear and free a few references. (It extends
_FlowControlMixin, a Transport with four more slots, because asyncio's sendfile() asks
for one.)

It stands in a module of its own because within a module Cython calls the slots it wrote
itself, and not these.
"""

from cpython.object cimport PyTypeObject

cdef extern from *:
    """
    static int nb_transport_traverse(PyObject *self, visitproc visit, void *arg) {
        Py_VISIT(Py_TYPE(self));
        for (int i = 0; i < NB_SLOTS; i++)
            Py_VISIT(((NbAsyncioTransport *) self)->slots[i]);
        return 0;
    }

    static int nb_transport_clear(PyObject *self) {
        for (int i = 0; i < NB_SLOTS; i++)
            Py_CLEAR(((NbAsyncioTransport *) self)->slots[i]);
        return 0;
    }

    static void nb_transport_dealloc(PyObject *self) {
        PyTypeObject *type = Py_TYPE(self);
        PyObject_GC_UnTrack(self);
        nb_transport_clear(self);
        type->tp_free(self);
        Py_DECREF(type);
    }

    static PyObject *nb_transport_new(PyTypeObject *type, PyObject *args, PyObject *names) {
        return type->tp_alloc(type, 0);     /* object's own refuses arguments */
    }

    static void nb_own_slots(PyTypeObject *type) {
        type->tp_new = nb_transport_new;
        type->tp_traverse = nb_transport_traverse;
        type->tp_clear = nb_transport_clear;
        type->tp_dealloc = nb_transport_dealloc;
    }
    """
    void nb_own_slots(PyTypeObject *type) noexcept


cdef class TransportBase(_FlowControlMixin):
    """What is left of asyncio.Transport when its memory is ours to manage."""


nb_own_slots(<PyTypeObject *> TransportBase)
