/* The system calls that a thread blocks in, by name: syscall(2) has another number on each machine. */

#include <stddef.h>
#include <sys/syscall.h>

struct nb_call_name {
    long number;
    const char *name;
};

static const struct nb_call_name nb_call_names[] = {
#define NB_CALL(name) {SYS_##name, #name},
#ifdef SYS_poll
    NB_CALL(poll)
    NB_CALL(select)
    NB_CALL(epoll_wait)
    NB_CALL(open)
    NB_CALL(pause)
    NB_CALL(stat)
    NB_CALL(lstat)
    NB_CALL(mkdir)
    NB_CALL(unlink)
    NB_CALL(rename)
#endif
    NB_CALL(accept)
    NB_CALL(accept4)
    NB_CALL(clock_nanosleep)
    NB_CALL(connect)
    NB_CALL(copy_file_range)
    NB_CALL(epoll_pwait)
    NB_CALL(fcntl)
    NB_CALL(fdatasync)
    NB_CALL(flock)
    NB_CALL(fsync)
    NB_CALL(fstat)
    NB_CALL(futex)
    NB_CALL(getdents64)
    NB_CALL(getrandom)
    NB_CALL(ioctl)
    NB_CALL(nanosleep)
    NB_CALL(newfstatat)
    NB_CALL(openat)
    NB_CALL(ppoll)
    NB_CALL(pread64)
    NB_CALL(pselect6)
    NB_CALL(pwrite64)
    NB_CALL(read)
    NB_CALL(readv)
    NB_CALL(recvfrom)
    NB_CALL(recvmsg)
    NB_CALL(rt_sigtimedwait)
    NB_CALL(semtimedop)
    NB_CALL(sendfile)
    NB_CALL(sendmsg)
    NB_CALL(sendto)
    NB_CALL(splice)
    NB_CALL(statx)
    NB_CALL(sync)
    NB_CALL(wait4)
    NB_CALL(waitid)
    NB_CALL(write)
    NB_CALL(writev)
#undef NB_CALL
};

static const char *nb_call_name(long number) {
    size_t i;
    for (i = 0; i < sizeof nb_call_names / sizeof *nb_call_names; i++)
        if (nb_call_names[i].number == number)
            return nb_call_names[i].name;
    return NULL;
}
