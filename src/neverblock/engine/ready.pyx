"""Work that is due: handles, the ring they wait in, and the heap of timers.

- GIL held everywhere. The ring may be pushed to from any thread; all else is for
  the loop's thread.
- Handles are unknown to the cyclic garbage collector: tracking them is 40 % of a
  burst of call_soon. So a handle drops its callback, arguments and context as soon
  as it has run, is cancelled, or the loop closes: no cycle outlives its work.
- The heap knows each timer's slot: a cancelled timer leaves it at once, and the
  memory of a crowd of timers is given back when the crowd is gone.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport Py_EQ, Py_GT, Py_LE, Py_LT, Py_NE, PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport INFINITY

from asyncio import format_helpers

cdef extern from *:
    object PyContext_CopyCurrent()


@cython.no_gc
@cython.freelist(1024)
cdef class Handle:
    """A callback that waits for its turn: what call_soon and add_reader return."""

    cdef int mark_cancelled(self) except -1:
        if self.source_traceback is not None:   # debug mode: what it was is still told
            self.described = format_helpers._format_callback_source(self.callback, self.args)
        self.is_cancelled = True
        self.drop()
        return 0

    def cancel(self):
        """Make sure the callback does not run. Idempotent."""
        if not self.is_cancelled:
            self.mark_cancelled()

    def cancelled(self):
        """Whether cancel() was called."""
        return self.is_cancelled

    def get_context(self):
        """The contextvars.Context it runs in; None once it ran or was cancelled."""
        return self.context

    def _run(self):
        if self.callback is not None:
            self.context.run(self.callback, *self.args)

    @property
    def _cancelled(self):
        return self.is_cancelled

    @property
    def _callback(self):
        return self.callback

    @property
    def _args(self):
        return self.args

    @property
    def _source_traceback(self):
        return self.source_traceback

    def _repr_info(self):
        info = [type(self).__name__]
        if self.is_cancelled:
            info.append("cancelled")
        if self.described is not None:
            info.append(self.described)
        elif self.callback is not None:
            info.append(format_helpers._format_callback_source(self.callback, self.args))
        if self.source_traceback:
            frame = self.source_traceback[-1]
            info.append(f"created at {frame[0]}:{frame[1]}")
        return info

    def __repr__(self):
        return f"<{' '.join(self._repr_info())}>"


@cython.no_gc
cdef class TimerHandle(Handle):
    """A callback that waits for its time: what call_later and call_at return."""

    def cancel(self):
        """Make sure the callback does not run. Idempotent."""
        if not self.is_cancelled:
            self.mark_cancelled()
            if self.timers is not None:
                self.timers.remove(self)

    def when(self):
        """The deadline in seconds, on the clock of loop.time()."""
        return self.deadline

    def __hash__(self):
        return hash(self.deadline)

    def __richcmp__(self, other, int operation):
        # By deadline; equal where the work is the same as well, as asyncio has it.
        cdef TimerHandle one = self
        cdef TimerHandle two
        if not isinstance(other, TimerHandle):
            return NotImplemented
        two = <TimerHandle> other
        if operation == Py_LT:
            return one.deadline < two.deadline
        if operation == Py_GT:
            return one.deadline > two.deadline
        same = (
            one.deadline == two.deadline and one.callback == two.callback
            and one.args == two.args and one.is_cancelled == two.is_cancelled)
        if operation == Py_EQ:
            return same
        if operation == Py_NE:
            return not same
        return same or (
            one.deadline < two.deadline if operation == Py_LE else one.deadline > two.deadline)

    @property
    def _when(self):
        return self.deadline

    @property
    def _scheduled(self):
        return self.timers is not None

    def _repr_info(self):
        info = Handle._repr_info(self)
        info.insert(2 if self.is_cancelled else 1, f"when={self.deadline}")
        return info


cdef Handle new_handle(object callback, tuple args, object context):
    cdef Handle handle = Handle.__new__(Handle)
    handle.callback = callback
    handle.args = args
    handle.context = PyContext_CopyCurrent() if context is None else context
    return handle


cdef TimerHandle new_timer(double deadline, object callback, tuple args, object context):
    cdef TimerHandle handle = TimerHandle.__new__(TimerHandle)
    handle.deadline = deadline
    handle.callback = callback
    handle.args = args
    handle.context = PyContext_CopyCurrent() if context is None else context
    return handle


cdef enum:
    FEWEST = 64         # slots that are kept, however few are in use
    MOST_KEPT = 4096    # and however many were


@cython.final
cdef class Ready:
    """The ring of what runs next: handles, endpoints with completions, in order."""

    def __cinit__(self):
        self.resize(FEWEST)

    def __dealloc__(self):
        self.clear()
        PyMem_Free(self.items)

    cdef int shrink(self) except -1:
        """After a burst: give back what it took."""
        if self.size == 0 and self.capacity > MOST_KEPT:
            self.resize(FEWEST)
        return 0

    cdef int resize(self, Py_ssize_t capacity) except -1:
        # Grow only when full, shrink only when empty: either way the order is kept
        # by copying the part before the head behind the old end.
        cdef Py_ssize_t i
        cdef PyObject **items = <PyObject **> PyMem_Realloc(
            self.items, capacity * sizeof(PyObject *))
        if items is NULL:
            raise MemoryError
        self.items = items
        if self.size == 0:
            self.head = 0
        for i in range(self.head):
            items[self.capacity + i] = items[i]
        self.capacity = capacity
        return 0

    cdef int clear(self) except -1:
        cdef object item
        while self.size:
            item = self.pop()
            if isinstance(item, Handle):
                (<Handle> item).drop()
        return 0

    cdef int abandon(self) except -1:
        """In a forked child: nothing of it runs. Its references are never given back."""
        self.head = self.size = 0
        return 0


cdef inline bint earlier(Entry *one, Entry *other) noexcept:
    if one.deadline != other.deadline:
        return one.deadline < other.deadline
    return one.order < other.order


@cython.final
cdef class Timers:
    """A heap of four children a node, by deadline, then by age."""

    def __cinit__(self):
        self.resize(FEWEST)

    def __dealloc__(self):
        self.clear()
        PyMem_Free(self.heap)

    cdef int push(self, TimerHandle handle) except -1:
        cdef Entry entry
        if self.size == self.capacity:
            self.resize(self.capacity * 2)
        # A nan compares with nothing, and would lead the heap astray: it is never due.
        entry.deadline = handle.deadline if handle.deadline == handle.deadline else INFINITY
        entry.order = self.pushed
        entry.handle = <PyObject *> handle
        Py_INCREF(handle)
        handle.timers = self
        self.pushed += 1
        self.size += 1
        self.sift_up(self.size - 1, entry)
        return 0

    cdef int remove(self, TimerHandle handle) except -1:
        self.take(handle.slot)
        return 0

    cdef int move_due(self, double until, Ready ready) except -1:
        while self.size and self.heap[0].deadline <= until:
            ready.push(<object> self.heap[0].handle)
            self.take(0)
        return 0

    cdef object take(self, Py_ssize_t slot):
        cdef TimerHandle handle = <TimerHandle> self.heap[slot].handle
        cdef Entry last
        self.size -= 1
        last = self.heap[self.size]
        if slot < self.size:
            if slot and earlier(&last, &self.heap[(slot - 1) // 4]):
                self.sift_up(slot, last)
            else:
                self.sift_down(slot, last)
        handle.timers = None
        Py_DECREF(handle)
        if self.size < self.capacity // 8 and self.capacity > FEWEST:
            self.resize(self.capacity // 2)
        return handle

    cdef int resize(self, Py_ssize_t capacity) except -1:
        cdef Entry *heap = <Entry *> PyMem_Realloc(self.heap, capacity * sizeof(Entry))
        if heap is NULL:
            raise MemoryError
        self.heap = heap
        self.capacity = capacity
        return 0

    cdef void sift_up(self, Py_ssize_t slot, Entry entry) noexcept:
        cdef Py_ssize_t parent
        while slot:
            parent = (slot - 1) // 4
            if not earlier(&entry, &self.heap[parent]):
                break
            self.heap[slot] = self.heap[parent]
            (<TimerHandle> self.heap[slot].handle).slot = slot
            slot = parent
        self.heap[slot] = entry
        (<TimerHandle> entry.handle).slot = slot

    cdef void sift_down(self, Py_ssize_t slot, Entry entry) noexcept:
        cdef Py_ssize_t child, best, first
        while True:
            first = 4 * slot + 1
            if first >= self.size:
                break
            best = first
            for child in range(first + 1, min(first + 4, self.size)):
                if earlier(&self.heap[child], &self.heap[best]):
                    best = child
            if not earlier(&self.heap[best], &entry):
                break
            self.heap[slot] = self.heap[best]
            (<TimerHandle> self.heap[slot].handle).slot = slot
            slot = best
        self.heap[slot] = entry
        (<TimerHandle> entry.handle).slot = slot

    cdef int clear(self) except -1:
        cdef TimerHandle handle
        while self.size:
            handle = self.take(self.size - 1)
            handle.drop()
        return 0
