"""Reads memory of this process that may not be there: what is gone is an error, not a crash.

- The kernel does the reading: process_vm_readv(2) on ourselves; where a container forbids it,
  write(2) into a pipe. Both say EFAULT where a plain load would end the process.
- Async-signal-safe: system calls, made without libc's wrappers, and nothing else.
- One reader at a time; the caller sees to it. A forked child closes its copy of the pipe.
"""

import errno
import os

cdef extern from * nogil:
    """
    #include <limits.h>
    #include <sys/syscall.h>
    #include <sys/uio.h>
    #include <unistd.h>
    /* The wrappers of sanitizers look at what they are to read. */
    #define nb_vm_read(process, into, pieces, count) \\
        syscall(SYS_process_vm_readv, (long) (process), into, (long) (count), pieces, \\
            (long) (count), 0L)
    #define nb_write(fd, place, size) syscall(SYS_write, (long) (fd), place, size)
    #define nb_read(fd, into, size) syscall(SYS_read, (long) (fd), into, size)
    #define nb_process() ((int) syscall(SYS_getpid))
    """
    long nb_vm_read(int process, iovec *into, iovec *pieces, int count) noexcept
    long nb_write(int fd, const void *place, size_t size) noexcept
    long nb_read(int fd, void *into, size_t size) noexcept
    int nb_process() noexcept
    enum: PIPE_BUF

cdef int process = 0        # by process_vm_readv; 0: by the pipe
cdef int output = -1
cdef int entry = -1


cdef bint gather(iovec *into, iovec *pieces, int count) noexcept nogil:
    cdef size_t wanted = 0
    cdef int i
    for i in range(count):
        if process == 0 and not fetch_by_pipe(
                <char *> into[i].iov_base, <const char *> pieces[i].iov_base, pieces[i].iov_len):
            return False
        wanted += pieces[i].iov_len
    return process == 0 or nb_vm_read(process, into, pieces, count) == <long> wanted


cdef bint fetch(void *into, const void *place, size_t size) noexcept nogil:
    cdef iovec target, piece
    target.iov_base = into
    piece.iov_base = <void *> place
    target.iov_len = piece.iov_len = size
    return gather(&target, &piece, 1)


cdef bint fetch_by_pipe(char *into, const char *place, size_t size) noexcept nogil:
    cdef long some, got
    cdef bint whole = True
    while size and whole:
        some = nb_write(entry, place, min(size, <size_t> PIPE_BUF))
        if some <= 0:
            return False
        whole = some == <long> min(size, <size_t> PIPE_BUF)
        got = nb_read(output, into, some)      # whatever came has to leave the pipe again
        if got != some:
            return False
        into += some
        place += some
        size -= some
    return whole


cdef bint works() noexcept nogil:
    """Whether what is there is read, and what is not there is noticed."""
    cdef int there = 42, copy = 0
    return fetch(&copy, &there, sizeof(there)) and copy == there and not fetch(
        &copy, <void *> 64, sizeof(copy))


def open_guard(force=""):
    """Find out how memory can be read; returns the name of the way.

    `force` names the one to take: "pipe". Raises OSError where there is none.
    """
    global process, output, entry
    close_guard()
    if force != "pipe":
        process = nb_process()
        if works():
            return "process_vm_readv"
        process = 0
    output, entry = os.pipe()
    os.set_blocking(output, False)
    os.set_blocking(entry, False)
    if works():
        return "pipe"
    close_guard()
    raise OSError(errno.ENOSYS, "neither process_vm_readv(2) nor a pipe reads this memory")


def close_guard():
    """Read no more, and close what that took. Idempotent."""
    global process, output, entry
    cdef int one = output, other = entry
    process = 0
    output = entry = -1
    if one >= 0:
        os.close(one)
        os.close(other)
