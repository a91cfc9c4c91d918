"""Lets the cyclic garbage collector see what an engine holds in memory of its own.

The ring, the heap and the table of descriptors are plain memory, and handles are unknown
to the collector: a loop that was dropped without close() would never be found, for what
it holds leads back to it. So the engine answers for them: it visits what is in them, and
what a handle holds that nobody else has.

- Runs inside the collector: calls nothing, and keeps no reference that it takes.
"""

from cpython.object cimport PyObject, PyTypeObject

from neverblock.engine.engine cimport Engine
from neverblock.engine.ready cimport Handle, Ready, TimerHandle, Timers
from neverblock.engine.sources cimport Source, Sources

cdef extern from *:
    """
    static traverseproc nb_engine_own_traverse;

    static void nb_set_traverse(PyTypeObject *type, traverseproc traverse) {
        nb_engine_own_traverse = type->tp_traverse;
        type->tp_traverse = traverse;
    }
    """
    ctypedef int (*visitproc)(PyObject *, void *) noexcept
    ctypedef int (*traverseproc)(PyObject *, visitproc, void *) noexcept
    traverseproc nb_engine_own_traverse
    void nb_set_traverse(PyTypeObject *type, traverseproc traverse) noexcept
    Py_ssize_t Py_REFCNT(PyObject *owned) noexcept
    PyTypeObject *Py_TYPE(PyObject *owned) noexcept


cdef int visit_work(PyObject *work, visitproc visit, void *arg) noexcept:
    cdef int stop = 0
    cdef PyTypeObject *kind
    if work is NULL:
        return 0
    kind = Py_TYPE(work)
    if kind is not <PyTypeObject *> Handle and kind is not <PyTypeObject *> TimerHandle:
        return visit(work, arg)
    if Py_REFCNT(work) == 1:
        stop = visit(<PyObject *> (<Handle> work).callback, arg)
        if stop == 0:
            stop = visit(<PyObject *> (<Handle> work).args, arg)
        if stop == 0:
            stop = visit(<PyObject *> (<Handle> work).context, arg)
    return stop


cdef int visit_ready(Ready ready, visitproc visit, void *arg) noexcept:
    cdef Py_ssize_t i
    cdef int stop
    for i in range(ready.size):
        stop = visit_work(
            ready.items[(ready.head + i) & (ready.capacity - 1)], visit, arg)
        if stop:
            return stop
    return 0


cdef int visit_timers(Timers timers, visitproc visit, void *arg) noexcept:
    cdef Py_ssize_t i
    cdef int stop
    for i in range(timers.size):
        stop = visit_work(timers.heap[i].handle, visit, arg)
        if stop:
            return stop
    return 0


cdef int visit_sources(Sources sources, visitproc visit, void *arg) noexcept:
    cdef Py_ssize_t i
    cdef int stop
    cdef Source *source
    for i in range(sources.capacity):
        source = &sources.table[i]
        stop = visit_work(source.endpoint, visit, arg)
        if stop == 0:
            stop = visit_work(source.reader, visit, arg)
        if stop == 0:
            stop = visit_work(source.writer, visit, arg)
        if stop:
            return stop
    return 0


cdef int traverse(PyObject *self, visitproc visit, void *arg) noexcept:
    cdef int stop = nb_engine_own_traverse(self, visit, arg)
    if stop == 0 and (<Engine> self).ready is not None:
        stop = visit_ready((<Engine> self).ready, visit, arg)
    if stop == 0 and (<Engine> self).timers is not None:
        stop = visit_timers((<Engine> self).timers, visit, arg)
    if stop == 0 and (<Engine> self).sources is not None:
        stop = visit_sources((<Engine> self).sources, visit, arg)
    return stop


nb_set_traverse(<PyTypeObject *> Engine, traverse)
