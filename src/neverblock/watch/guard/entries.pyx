"""Where the guard stands: at the entries of C functions, and behind Python's audit events.

- What asks is given by its thread: enter() and leave() are called by the one that runs a strict
  loop. Other threads pass by, at the cost of one test.
- While the guard decides about a call, what it does itself is not asked about.
- `asked` may raise; what it raises is raised by the call, which is then not made.
"""

from cpython.object cimport PyObject, PyTypeObject
from libc.string cimport strcmp

from types import WrapperDescriptorType

cdef extern from "watch/guard/entry.h":
    ctypedef PyObject *(*PyCFunction)(PyObject *, PyObject *)
    ctypedef PyObject *(*iternextfunc)(PyObject *)
    ctypedef struct PyMethodDef:
        PyCFunction ml_meth
        int ml_flags
    ctypedef struct PyWrapperDescrObject:
        pass
    ctypedef struct nb_place:
        PyMethodDef *definition
        PyCFunction original
        PyCFunction ours
        int kind
    ctypedef struct nb_iterator:
        PyTypeObject *type
        PyWrapperDescrObject *wrapper
        iternextfunc original
    int NB_PLACES
    nb_place nb_places[256]
    nb_iterator nb_iterators[8]
    int nb_guarded
    int nb_suspended
    int (*nb_ask)(int, PyObject *, PyObject *, PyObject *, PyObject **) except -1
    int (*nb_ask_next)(int, PyObject *) except -1
    int (*nb_heed)(const char *, PyObject *) except -1
    const PyCFunction nb_functions[256][5]
    const iternextfunc nb_nexts[8]
    int nb_convention(int flags)
    PyMethodDef *nb_definition(object function)
    void nb_set_next(int place, iternextfunc function)
    int nb_hook(const char *event, PyObject *args, void *unused)

cdef extern from "Python.h":
    ctypedef struct CType "PyTypeObject":
        iternextfunc tp_iternext
    int PySys_AddAuditHook(int (*hook)(const char *, PyObject *, void *), void *data) except -1
    int Py_IsInitialized()
    void Py_INCREF(object)
    ctypedef struct PyCodeObject:
        pass
    ctypedef struct PyFrameObject:
        pass
    PyFrameObject *PyEval_GetFrame()                            # borrowed
    PyFrameObject *PyFrame_GetBack(PyFrameObject *frame)        # a new reference
    PyCodeObject *PyFrame_GetCode(PyFrameObject *frame)         # a new reference
    void Py_XDECREF(PyObject *)

#: How a function is asked about: always; one that takes a lock, first whether it is free; never,
#: nor is what it calls; one of a socket, unless that does not block; one that waits for
#: descriptors, unless a loop of asyncio's does.
ASK = 0
LOCK = 1
SHIELD = 2
SOCKET = 3
WAIT = 4

cdef int places = 0
cdef int iterators = 0
#: What is known of each place: given back to `asked`.
cdef list calls = []
cdef list nexts = []
cdef dict events = {}
cdef object asked = None
#: The code by which loops of asyncio wait: of a turn, and of the selectors that are asked in it.
cdef list turns = []
cdef list selectors = []
#: What taking a lock returns.
cdef object had = True
cdef bint hooked = False
cdef bint heard = False


def answer_by(ask):
    """``ask(call, self, args, kwargs)`` raises what the call is to raise; True: a lock was had."""
    global asked
    asked = ask


def let_wait(turn, list selector_codes):
    """What waits in one of these selectors, called from that turn, is not asked about."""
    global turns, selectors
    turns, selectors = [turn], selector_codes


def enter():
    """The calling thread runs a strict loop from now on."""
    global nb_guarded
    nb_guarded = 1


def leave():
    """It does not any more."""
    global nb_guarded
    nb_guarded = 0


def inside():
    """Whether the calling thread is one that is asked."""
    return bool(nb_guarded)


def stand_at(function, call, int kind):
    """Stand at the entry of a C function from set_up() on; the place is kept for good.

    Raises TypeError for what is not a C function, OverflowError where there are too many.
    """
    global places
    cdef PyMethodDef *definition = nb_definition(function)
    if definition == NULL:
        raise TypeError(f"{function!r} is no C function")
    cdef int convention = nb_convention(definition.ml_flags)
    if convention < 0:
        raise TypeError(f"{function!r} is called in a way that is not known")
    for place in range(places):
        if nb_places[place].definition == definition:  # one function under two names
            return
    if places == NB_PLACES:
        raise OverflowError("the guard has no place for one function more")
    Py_INCREF(function)  # its type, and so the definition, lives on
    calls.append(call)
    nb_places[places].definition = definition
    nb_places[places].original = definition.ml_meth
    nb_places[places].ours = nb_functions[places][convention]
    nb_places[places].kind = kind
    places += 1


def stand_at_next(type kind, call):
    """The same for the iteration over a C type, `__next__`: TypeError for another type."""
    global iterators
    cdef object wrapper = kind.__dict__.get("__next__")
    if type(wrapper) is not WrapperDescriptorType:
        raise TypeError(f"{kind!r} is not iterated over by C code")
    for place in range(iterators):
        if nb_iterators[place].type == <PyTypeObject *><PyObject *>kind:
            return
    if iterators == 8:
        raise OverflowError("the guard has no place for one iterator more")
    Py_INCREF(kind)
    Py_INCREF(wrapper)
    nexts.append(call)
    nb_iterators[iterators].type = <PyTypeObject *>kind
    nb_iterators[iterators].wrapper = <PyWrapperDescrObject *><void *><PyObject *>wrapper
    nb_iterators[iterators].original = (<CType *><PyObject *>kind).tp_iternext
    iterators += 1


def set_up():
    """Take every place."""
    cdef int place
    for place in range(places):
        if nb_places[place].definition.ml_meth == nb_places[place].original:
            nb_places[place].definition.ml_meth = nb_places[place].ours
    for place in range(iterators):
        nb_set_next(place, nb_nexts[place])


def take_down():
    """Leave every place as it was. Calls under way go on."""
    cdef int place
    for place in range(places):
        # Not where somebody stands before us by now: it is passed through, idle.
        if nb_places[place].definition.ml_meth == nb_places[place].ours:
            nb_places[place].definition.ml_meth = nb_places[place].original
    for place in range(iterators):
        nb_set_next(place, nb_iterators[place].original)


def listen(dict wanted):
    """Be told of these audit events, by name, with what is known of each.

    Raises RuntimeError where another hook does not let ours in (sys.addaudithook).
    """
    global hooked, events, heard
    events = {name.encode(): call for name, call in wanted.items()}
    if hooked:
        return
    PySys_AddAuditHook(nb_hook, NULL)
    # Another hook may have refused it, without a word. So it is tried.
    global nb_guarded
    import sys
    before, nb_guarded = nb_guarded, 1
    try:
        heard = False
        sys.audit(PROBE)
    finally:
        nb_guarded = before
    if not heard:
        raise RuntimeError("an audit hook of this process refuses the guard's")
    hooked = True


PROBE = "neverblock.guard"


cdef int ask(
    int place, PyObject *self, PyObject *args, PyObject *kwargs, PyObject **result
) except -1:
    global nb_suspended
    cdef int kind = nb_places[place].kind
    cdef tuple given = <tuple>args
    cdef dict named = <dict>kwargs if kwargs != NULL else None
    nb_suspended += 1
    try:
        if kind == SOCKET:
            if (<object>self).gettimeout() == 0:
                return 0
        elif kind == WAIT:
            if is_loops_wait():
                return 0
        elif kind == LOCK:
            if not waits(given, named):
                return 0
            if (<object>self).acquire(False):
                Py_INCREF(had)
                result[0] = <PyObject *>had
                return 1
        if asked(calls[place], <object>self, given, named or {}) is True:
            Py_INCREF(had)
            result[0] = <PyObject *>had
            return 1
        return 0
    finally:
        nb_suspended -= 1


cdef bint is_loops_wait() except -1:
    cdef PyFrameObject *frame = PyEval_GetFrame()
    cdef PyFrameObject *back
    cdef bint found
    if frame is NULL or not runs_one_of(frame, selectors):
        return False
    back = PyFrame_GetBack(frame)
    found = back is not NULL and runs_one_of(back, turns)
    Py_XDECREF(<PyObject *> back)
    return found


cdef bint runs_one_of(PyFrameObject *frame, list codes) except -1:
    cdef PyObject *code = <PyObject *> PyFrame_GetCode(frame)
    cdef bint found = False
    for each in codes:
        if code == <PyObject *> each:
            found = True
    Py_XDECREF(code)
    return found


cdef bint waits(tuple args, dict named) except -1:
    """Whether acquire(blocking, timeout) would wait: for arguments that are wrong it does not."""
    if args:
        if not args[0]:
            return False
    elif named:
        if not named.get("blocking", named.get("block", True)):
            return False
    timeout = args[1] if len(args) > 1 else named.get("timeout") if named else None
    return timeout is None or (isinstance(timeout, (int, float)) and timeout != 0)


cdef int ask_next(int place, PyObject *self) except -1:
    global nb_suspended
    nb_suspended += 1
    try:
        asked(nexts[place], <object>self, (), {})
        return 0
    finally:
        nb_suspended -= 1


def ask_now(call, tuple args):
    """Ask about a call of a Python function, in a thread that is asked."""
    global nb_suspended
    if not nb_guarded or nb_suspended:
        return
    nb_suspended += 1
    try:
        asked(call, None, args, {})
    finally:
        nb_suspended -= 1


cdef int heed(const char *event, PyObject *args) except -1:
    global nb_suspended, heard
    if strcmp(event, b"neverblock.guard") == 0:
        heard = True
        return 0
    cdef object call = events.get(<bytes>event)
    if call is None:
        return 0
    nb_suspended += 1
    try:
        asked(call, None, <tuple>args, {})
        return 0
    finally:
        nb_suspended -= 1


nb_ask = ask
nb_ask_next = ask_next
nb_heed = heed
