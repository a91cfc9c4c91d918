"""Which callbacks took the time of one long turn, in a table of fixed size.

- Loop's thread, GIL held. It allocates nothing, so that a turn that is too long already is not
  made much longer.
- Counted are functions, not callables: what is held is a code object or a class, never what a
  callback holds. It is let go when the report has been read, or with the next long turn.
- Where a set of entries is full, the one that took least makes room: what takes much stays.
- Of a task it is the coroutine's function; of a transport the protocol's class.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uintptr_t
from libc.stdio cimport snprintf
from libc.string cimport memset, strcmp, strstr

from neverblock.engine.driver cimport Endpoint
from neverblock.engine.ready cimport Handle

import asyncio
import functools

cdef extern from *:
    """
    #define NB_METHOD(f) (((PyCFunctionObject *) (f))->m_ml)
    #define NB_DEFINED_NAME(definition) (((PyMethodDef *) (definition))->ml_name)
    #define NB_TYPE_NAME(o) (Py_TYPE(o)->tp_name)
    """
    bint PyMethod_Check(object value) noexcept
    PyObject *PyMethod_GET_FUNCTION(object method) noexcept
    PyObject *PyMethod_GET_SELF(object method) noexcept
    bint PyFunction_Check(object value) noexcept
    PyObject *PyFunction_GET_CODE(object function) noexcept
    bint PyCFunction_CheckExact(object value) noexcept
    PyObject *PyCFunction_GET_SELF(object function) noexcept
    const void *NB_METHOD(object function) noexcept
    const char *NB_DEFINED_NAME(const void *definition) noexcept
    const char *NB_TYPE_NAME(object value) noexcept

cdef enum:
    DEEPEST = 8         # partial of partial of …

cdef object Task = asyncio.Task
cdef object partial = functools.partial


cdef object code_of(object task):
    """The code of a task's coroutine."""
    cdef object coroutine = task.get_coro()
    for name in ("cr_code", "gi_code", "ag_code"):
        code = getattr(coroutine, name, None)
        if code is not None:
            return code
    return type(coroutine)


cdef object function_of(object callback, const void **method):
    cdef object self
    cdef int _depth
    for _depth in range(DEEPEST):
        if PyFunction_Check(callback):
            return <object> PyFunction_GET_CODE(callback)
        if PyMethod_Check(callback):
            self = <object> PyMethod_GET_SELF(callback)
            callback = <object> PyMethod_GET_FUNCTION(callback)
            if isinstance(self, Task) and callback.__name__ in ("__step", "__wakeup"):
                return code_of(self)
        elif PyCFunction_CheckExact(callback):
            if PyCFunction_GET_SELF(callback) is NULL:
                method[0] = NB_METHOD(callback)
                return type(callback)
            self = <object> PyCFunction_GET_SELF(callback)
            if isinstance(self, Task) and strcmp(
                    NB_DEFINED_NAME(NB_METHOD(callback)), "task_wakeup") == 0:
                return code_of(self)
            method[0] = NB_METHOD(callback)
            return self if isinstance(self, type) else type(self)
        elif strstr(NB_TYPE_NAME(callback), "TaskStepMethWrapper") is not NULL:
            return code_of(callback.__self__)
        elif type(callback) is partial:
            callback = callback.func
        else:
            break
    return type(callback)


cdef object owner_of(object work, const void **method):
    method[0] = NULL
    try:
        if isinstance(work, Endpoint):
            return type(work.get_protocol())
        return function_of(
            (<Handle> work).callback if isinstance(work, Handle) else work._callback, method)
    except Exception:       # of a Task, transport or handle of the user's
        method[0] = NULL
        return type(work)


@cython.final
@cython.no_gc
cdef class Tally:
    """The table."""

    def __dealloc__(self):
        self.clear()

    cdef void begin(self, double turn, double moment) noexcept:
        self.clear()
        self.turn = turn
        self.timed = moment

    cdef void add(self, object owner, const void *method, double took) noexcept:
        cdef uintptr_t mixed = (<uintptr_t> <PyObject *> owner >> 4) ^ <uintptr_t> method
        cdef Entry *entries = &self.entries[
            ((mixed ^ (mixed >> 5) ^ (mixed >> 10)) % SETS) * WAYS]
        cdef Entry *entry = entries
        cdef int i
        for i in range(WAYS):
            if entries[i].owner == <void *> <PyObject *> owner and entries[i].method == method:
                entry = &entries[i]
                break
            if entries[i].total < entry.total:
                entry = &entries[i]
        else:
            replace(entry, owner, method, &self.rest)
        entry.count += 1
        entry.total += took
        entry.longest = max(entry.longest, took)

    cdef void end(self, double turn, double length, unsigned long long callbacks) noexcept:
        if self.turn != turn:       # asked too late: no callback of it was timed
            self.begin(turn, turn + length)
        self.length = length
        self.callbacks = callbacks

    cdef void clear(self) noexcept:
        cdef Entry[SETS * WAYS] dropped = self.entries
        cdef int i
        # What is dropped may run code of the user's: the table is empty before.
        memset(self.entries, 0, sizeof(self.entries))
        memset(&self.rest, 0, sizeof(Entry))
        self.turn = self.length = 0
        self.callbacks = 0
        for i in range(SETS * WAYS):
            if dropped[i].owner is not NULL:
                Py_DECREF(<object> <PyObject *> dropped[i].owner)

    def read(self, double turn):
        """What is known of the turn that began then; None: nothing, or no more.

        A dict: `length` and `callbacks` of the turn where it is over, else None; `since`, when
        timing began; `entries`, a list of (code or class, name of a C method or None, count,
        seconds, seconds of the longest), of which the first two of the last are None: the rest.
        """
        cdef list entries = []
        cdef Entry *entry
        cdef int i
        if turn == 0 or self.turn != turn:
            return None
        for i in range(SETS * WAYS):
            entry = &self.entries[i]
            if entry.owner is not NULL:
                entries.append((
                    <object> <PyObject *> entry.owner,
                    None if entry.method is NULL else entry.name.decode("utf-8", "replace"),
                    entry.count, entry.total, entry.longest))
        entries.append((None, None, self.rest.count, self.rest.total, self.rest.longest))
        return {
            "length": self.length or None,
            "callbacks": self.callbacks or None,
            "since": self.timed,
            "entries": entries,
        }

    def forget(self, double turn):
        """Let go of all that is known of that turn, where it is over."""
        if self.turn == turn and self.length:
            self.clear()


cdef void replace(Entry *entry, object owner, const void *method, Entry *rest) noexcept:
    cdef void *before = entry.owner
    rest.count += entry.count
    rest.total += entry.total
    rest.longest = max(rest.longest, entry.longest)
    memset(entry, 0, sizeof(Entry))
    entry.owner = <void *> <PyObject *> owner
    entry.method = method
    if method is not NULL:
        snprintf(entry.name, LONGEST_NAME, "%s", NB_DEFINED_NAME(method))
    Py_INCREF(owner)
    if before is not NULL:
        Py_DECREF(<object> <PyObject *> before)
