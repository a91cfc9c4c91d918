# What the kernel knows of a thread of this process: proc(5). Without the GIL.
#
# - Nothing is kept open: a thread may end, and descriptors may run out, at any time. What cannot
#   be read is left as it was.

from libc.stdio cimport sscanf, snprintf
from libc.stdlib cimport atoi
from libc.string cimport strrchr
from posix.fcntl cimport O_RDONLY, open
from posix.unistd cimport close, read

cdef extern from "watch/calls.h" nogil:
    const char *nb_call_name(long number) noexcept

cdef extern from "<dirent.h>" nogil:
    ctypedef struct DIR
    cdef struct dirent:
        char *d_name
    DIR *opendir(const char *path)
    dirent *readdir(DIR *directory)
    int closedir(DIR *directory)

cdef extern from * nogil:
    """
    #include <fcntl.h>
    #include <sys/syscall.h>
    """
    int O_CLOEXEC
    long SYS_futex

cdef enum:
    RUNNING = -2        # no system call: on a CPU, or waiting for one
    FAULT = -1          # stopped outside one: a page is on its way
    UNKNOWN = -3
    THREADS = 256       # looked at when one is searched for

cdef struct Usage:
    double cpu          # seconds on a CPU
    double queued       # seconds ready to run, and no CPU free

cdef struct Call:
    long number
    unsigned long arguments[6]
    unsigned long stack     # where its stack ends


cdef inline int about(int thread, const char *what, char *into, int room) noexcept nogil:
    cdef char[64] path
    cdef ssize_t size = -1
    cdef int fd
    snprintf(path, sizeof(path), "/proc/self/task/%d/%s", thread, what)
    fd = open(path, O_RDONLY | O_CLOEXEC)
    if fd >= 0:
        size = read(fd, into, room - 1)
        close(fd)
    into[size if size > 0 else 0] = 0
    return <int> size


cdef inline bint usage_of(int thread, Usage *usage) noexcept nogil:
    cdef char[128] text
    cdef unsigned long long cpu, queued
    if about(thread, "schedstat", text, sizeof(text)) <= 0:
        return False
    if sscanf(text, "%llu %llu", &cpu, &queued) != 2:
        return False
    usage.cpu = cpu * 1e-9
    usage.queued = queued * 1e-9
    return True


cdef inline void call_of(int thread, Call *call) noexcept nogil:
    cdef char[256] text
    call.number = UNKNOWN
    if about(thread, "syscall", text, sizeof(text)) <= 0:
        return
    if text[0] == c"r":
        call.number = RUNNING
    elif sscanf(
            text, "%ld %lx %lx %lx %lx %lx %lx %lx", &call.number,
            &call.arguments[0], &call.arguments[1], &call.arguments[2],
            &call.arguments[3], &call.arguments[4], &call.arguments[5], &call.stack) < 1:
        call.number = UNKNOWN


# Whether a debugger or SIGSTOP holds the thread; while we run, it is a debugger.
cdef inline bint halted(int thread) noexcept nogil:
    cdef char[512] text
    cdef const char *end
    if about(thread, "stat", text, sizeof(text)) <= 0:
        return False
    end = strrchr(text, c")")
    return end is not NULL and end[1] == c" " and (end[2] == c"t" or end[2] == c"T")


# Whether the thread could run, and has not since `used` was read.
cdef inline bint starving(int thread, const Usage *used) noexcept nogil:
    cdef Call call
    cdef Usage now_used
    call_of(thread, &call)
    return call.number == RUNNING and usage_of(thread, &now_used) and now_used.cpu == used.cpu


cdef struct Threads:
    int count
    int[THREADS] numbers
    double[THREADS] cpu
    bint[THREADS] ready     # on a CPU, or waiting for one


cdef inline void all_threads(Threads *threads) noexcept nogil:
    cdef DIR *directory = opendir("/proc/self/task")
    cdef dirent *entry
    cdef Usage usage
    cdef Call call
    cdef int number
    threads.count = 0
    if directory is NULL:
        return
    while threads.count < THREADS:
        entry = readdir(directory)
        if entry is NULL:
            break
        number = atoi(entry.d_name)
        if number > 0 and usage_of(number, &usage):
            threads.numbers[threads.count] = number
            threads.cpu[threads.count] = usage.cpu
            call_of(number, &call)
            threads.ready[threads.count] = call.number == RUNNING
            threads.count += 1
    closedir(directory)


# The thread, of those not `spared`, that used the most CPU time since; 0: none used `least`.
cdef inline int busiest(Threads *since, double least, int *spared, int count) noexcept nogil:
    cdef int found = 0, i, j
    cdef Usage usage
    for i in range(since.count):
        for j in range(count):
            if since.numbers[i] == spared[j]:
                break
        else:
            if usage_of(since.numbers[i], &usage) and usage.cpu - since.cpu[i] >= least:
                least = usage.cpu - since.cpu[i]
                found = since.numbers[i]
    return found


# Whether one of those not `spared` was ready to run all the time since, and got no CPU.
cdef inline bint any_starving(Threads *since, int *spared, int count) noexcept nogil:
    cdef Usage usage
    cdef int i, j
    for i in range(since.count):
        for j in range(count):
            if since.numbers[i] == spared[j]:
                break
        else:
            usage.cpu = since.cpu[i]
            if since.ready[i] and starving(since.numbers[i], &usage):
                return True
    return False
