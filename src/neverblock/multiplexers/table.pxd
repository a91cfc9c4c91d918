# A table by descriptor, for backends whose kernel side keeps none. 0 stands for "not there".

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.string cimport memset

cdef struct Table:
    int *slots
    Py_ssize_t size

cdef inline int table_get(Table *table, int fd) noexcept nogil:
    return table.slots[fd] if 0 <= fd < table.size else 0

# Descriptors are small and dense (the kernel gives the lowest free), so an array does;
# it must only be made to grow for one that is open.
cdef inline int table_put(Table *table, int fd, int value) except -1:
    cdef Py_ssize_t size
    cdef int *slots
    if fd >= table.size:
        size = max(<Py_ssize_t> fd + 1, table.size * 2, 64)
        slots = <int *> PyMem_Realloc(table.slots, size * sizeof(int))
        if slots is NULL:
            raise MemoryError
        memset(slots + table.size, 0, (size - table.size) * sizeof(int))
        table.slots = slots
        table.size = size
    table.slots[fd] = value
    return 0

cdef inline void table_free(Table *table) noexcept:
    PyMem_Free(table.slots)
    table.slots = NULL
    table.size = 0
