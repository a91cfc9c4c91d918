# The multiplexer over io_uring(7): requests to poll and their answers pass through its rings.
#
# It asks for readiness alone; it is not the driver of decisions/0003 (see decisions/0014).
#
# - The kernel has one multishot poll request for each watch. It answers when something happens on
#   the file, not while it lasts (no kernel takes IORING_POLL_ADD_LEVEL), so what it answers is kept
#   as epoll(7) does inside: who may be ready stands in `listed`, is looked at by poll(2) at each
#   wait, and leaves the list only when it is not ready.
# - What answered while nobody waited may be over by now: it is listed, not reported. What answers
#   during the wait itself is reported as it comes.
# - Requests are made at the next wait, all in the call that waits. A watch that is dropped is
#   cancelled at once: a request holds the file, and its peer would see no end of it.
# - A request is known by descriptor and generation. Answers to older generations mean nobody.
# - A descriptor closed by its owner before drop() is forgotten once its file tells anything; until
#   then its request keeps the file open.
# - Requests belong to the thread that made them, and end with it: they are made again.
# - A forked child may only let go of the ring.

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport (
    EAGAIN, EBADF, EBUSY, EEXIST, EINTR, EINVAL, ENOENT, ENOSYS, EPERM, errno,
)
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset
from posix.time cimport timespec
from posix.unistd cimport getpid

from neverblock.multiplexers.base cimport (
    READ, WRITE, Multiplexer, awake, check, check_open, enter, fail, fall_asleep, interval,
    reserve,
)
from neverblock.multiplexers.ring cimport (
    NB_CQE_MORE, NB_OP_ASYNC_CANCEL, NB_OP_POLL_ADD, NB_POLL_ADD_MULTI, NB_SQE_CQE_SKIP_SUCCESS,
    Ring, answers, await_answers, close_ring, exchange, holds_back, nb_cqe, nb_poll_bits,
    nb_sqe, new_request, next_answer, open_ring, pending, publish, submit,
)
from neverblock.multiplexers.selector import Selector

cdef extern from "<errno.h>" nogil:
    enum:
        ECANCELED
        ETIME

cdef extern from "<poll.h>" nogil:
    enum:
        POLLERR
        POLLHUP
        POLLIN
        POLLNVAL
        POLLOUT

    ctypedef unsigned long nfds_t

    struct pollfd:
        int fd
        short events
        short revents

    int poll(pollfd *fds, nfds_t count, int timeout)

cdef enum:
    REQUESTS = 256          # that one system call hands in
    ANSWERS = 4096          # room for; more wait in the kernel, or end their requests
    WRONG = POLLERR | POLLHUP | POLLNVAL
    INTERRUPTED = -2        # by a signal, in a call that does not even wait

cdef uint64_t NOBODY = <uint64_t> -1     # whose answer is of no interest

cdef struct Watch:
    int mask                # 0: not watched
    unsigned generation     # of its last request
    bint armed              # the kernel has that request
    bint wanted             # stands in `unarmed`
    bint listed             # stands in `listed`


cdef class UringMultiplexer(Multiplexer):
    cdef Ring ring
    cdef int owner                          # the process that made it
    cdef Watch *watches                     # by descriptor; the arrays below are as long
    cdef int *unarmed                       # who needs a request; some may be dropped by now
    cdef int *listed                        # who may be ready; likewise
    cdef pollfd *probes
    cdef Py_ssize_t size, watched
    cdef int unarmed_count, listed_count

    def __cinit__(self):
        cdef int error = open_ring(&self.ring, REQUESTS, ANSWERS)
        if error:
            refuse(error)
        self.owner = getpid()

    def __dealloc__(self):
        self.release()
        PyMem_Free(self.watches)
        PyMem_Free(self.unarmed)
        PyMem_Free(self.listed)
        PyMem_Free(self.probes)

    # ---- watches

    cdef int add(self, int fd, int mask) except -1:
        cdef Watch *watch
        check(self, fd, mask)
        check_open(fd)
        self.reach(fd)
        watch = &self.watches[fd]
        if watch.mask:
            fail(EEXIST)
        watch.mask = mask
        self.watched += 1
        self.want(fd)
        return self.hasten()

    cdef int change(self, int fd, int mask) except -1:
        cdef Watch *watch
        check(self, fd, mask)
        if fd >= self.size or not self.watches[fd].mask:
            fail(ENOENT)
        check_open(fd)
        watch = &self.watches[fd]
        # A request of its own even for the same mask: the number may be another file's by now.
        if watch.armed:
            self.cancel(fd)
        watch.mask = mask
        self.want(fd)
        return self.hasten()

    cdef int drop(self, int fd) except -1:
        cdef Watch *watch
        if self.closed or not 0 <= fd < self.size or not self.watches[fd].mask:
            return 0
        watch = &self.watches[fd]
        watch.mask = 0
        self.watched -= 1
        if watch.armed:
            self.cancel(fd)
            submit(&self.ring)
            # Whoever drops and never waits leaves an answer each time.
            if not self.waiting and answers(&self.ring) > ANSWERS // 2:
                self.collect(0, False)
        return 0

    cdef int reach(self, int fd) except -1:
        cdef Py_ssize_t size = max(64, self.size)
        if fd < self.size:
            return 0
        while size <= fd:
            size *= 2
        self.unarmed = <int *> longer(self.unarmed, size * sizeof(int))
        self.listed = <int *> longer(self.listed, size * sizeof(int))
        self.probes = <pollfd *> longer(self.probes, size * sizeof(pollfd))
        self.watches = <Watch *> longer(self.watches, size * sizeof(Watch))
        memset(self.watches + self.size, 0, (size - self.size) * sizeof(Watch))
        self.size = size
        return 0

    cdef void want(self, int fd) noexcept:
        if not self.watches[fd].wanted:
            self.watches[fd].wanted = True
            self.unarmed[self.unarmed_count] = fd
            self.unarmed_count += 1

    cdef int hasten(self) except -1:
        if self.waiting:    # in another thread, and only by requests made before
            self.arm_all()
            submit(&self.ring)
        return 0

    # ---- requests

    cdef nb_sqe *request(self) except NULL:
        """Empty, to be filled; handed in by hand_in()."""
        cdef nb_sqe *entry = new_request(&self.ring)
        if entry is NULL:
            fail(EBUSY)
        return entry

    cdef void hand_in(self) noexcept:
        publish(&self.ring)
        self.handed_in += 1

    cdef int arm(self, int fd) except -1:
        cdef Watch *watch = &self.watches[fd]
        cdef nb_sqe *entry = self.request()
        watch.generation += 1
        watch.armed = True
        entry.opcode = NB_OP_POLL_ADD
        entry.fd = fd
        entry.len = NB_POLL_ADD_MULTI
        entry.op_flags = nb_poll_bits(<uint32_t> to_poll(watch.mask))
        entry.user_data = tag(fd, watch.generation)
        self.hand_in()
        return 0

    cdef int cancel(self, int fd) except -1:
        # Not by POLL_REMOVE, which fails where the request is about to answer.
        cdef Watch *watch = &self.watches[fd]
        cdef nb_sqe *entry = self.request()
        watch.armed = False
        entry.opcode = NB_OP_ASYNC_CANCEL
        entry.flags = NB_SQE_CQE_SKIP_SUCCESS
        entry.fd = -1
        entry.addr = tag(fd, watch.generation)
        entry.user_data = NOBODY
        self.hand_in()
        return 0

    cdef int arm_all(self) except -1:
        cdef int fd
        while self.unarmed_count:
            fd = self.unarmed[self.unarmed_count - 1]
            if self.watches[fd].mask and not self.watches[fd].armed:
                self.arm(fd)
            self.watches[fd].wanted = False
            self.unarmed_count -= 1
        return 0

    # ---- answers

    cdef int collect(self, int count, bint fresh) noexcept:
        """Take every answer; fresh: report them, from place `count`. Returns the next place."""
        cdef nb_cqe answer
        while next_answer(&self.ring, &answer):
            count = self.take(&answer, count, fresh)
            self.looked_at += 1
        return count

    cdef int take(self, nb_cqe *answer, int count, bint fresh) noexcept:
        cdef unsigned fd = <uint32_t> answer.user_data
        cdef int mask
        cdef Watch *watch
        if fd >= <size_t> self.size:
            return count                    # NOBODY's
        watch = &self.watches[fd]
        if not watch.armed or watch.generation != answer.user_data >> 32:
            return count
        if not answer.flags & NB_CQE_MORE:
            watch.armed = False             # made again when it leaves the list
        if watch.listed:
            return count
        watch.listed = True
        self.listed[self.listed_count] = <int> fd
        self.listed_count += 1
        if not fresh or answer.res == -ECANCELED or answer.res == -EBADF:
            return count                    # the next wait looks
        # Another error: poll cannot wait for such a file. Its owner is woken, as by POLLERR.
        mask = to_mask(answer.res if answer.res >= 0 else WRONG, watch.mask)
        if mask == 0 or count >= self.capacity:
            return count                    # half-closed, which nobody asked for
        return self.report(<int> fd, mask, count)

    cdef int report(self, int fd, int mask, int count) noexcept:
        self.events[count].fd = fd
        self.events[count].mask = mask
        return count + 1

    cdef int look(self) except -1:
        """Report who of those listed is ready now; the others leave the list. Or INTERRUPTED."""
        cdef int i, fd, mask, kept = 0, count = 0, listed = 0
        cdef Watch *watch
        for i in range(self.listed_count):
            fd = self.listed[i]
            watch = &self.watches[fd]
            if watch.mask:
                self.listed[listed] = fd
                self.probes[listed].fd = fd
                self.probes[listed].events = to_poll(watch.mask)
                self.probes[listed].revents = 0
                listed += 1
            else:
                watch.listed = False
        self.listed_count = listed
        if listed == 0:
            return 0
        if poll(self.probes, listed, 0) < 0:
            return INTERRUPTED if errno == EINTR else fail(errno)
        self.handed_in += listed
        self.looked_at += listed
        for i in range(listed):
            fd = self.listed[i]
            watch = &self.watches[fd]
            if self.probes[i].revents & POLLNVAL:
                watch.listed = False
                self.forget(fd)
                continue
            mask = to_mask(self.probes[i].revents, watch.mask)
            if mask:
                self.listed[kept] = fd
                kept += 1
                count = self.report(fd, mask, count)
            else:
                watch.listed = False
                if not watch.armed:
                    self.want(fd)
        self.listed_count = kept
        return count

    cdef int forget(self, int fd) except -1:
        """Closed by its owner: no watch any more, and no file kept open."""
        self.watches[fd].mask = 0
        self.watched -= 1
        if self.watches[fd].armed:
            self.cancel(fd)
        return 0

    # ---- waiting

    cdef int wait(self, double timeout) except -1:
        cdef int count
        if not self.waiting and self.capacity < self.watched:     # all may be ready at once
            reserve(self, max(self.watched, self.capacity * 2))
        enter(self)
        try:
            count = self.ask(timeout)
        finally:
            self.waiting = False
            if self.closed:
                close_ring(&self.ring)
        self.events_out += count
        return count

    cdef int ask(self, double timeout) except -1:
        cdef int error, count
        cdef unsigned requests, least = 1
        cdef timespec spec
        cdef timespec *span = NULL
        # First what has gone before: requests cancelled, answers that the kernel holds back.
        if pending(&self.ring) or holds_back(&self.ring):
            exchange(&self.ring)
        self.collect(0, False)
        count = self.look()
        if count == INTERRUPTED:
            return 0
        self.arm_all()
        requests = pending(&self.ring)
        if requests == 0 and (count or timeout == 0):
            return count        # and not one system call, where nobody may be ready
        if count or timeout == 0:
            least = 0
        else:
            span = interval(timeout, &spec)
        with nogil:
            fall_asleep(self)
            error = await_answers(&self.ring, requests, least, span)
            awake(self)
        if error not in (0, EINTR, ETIME, EAGAIN, EBUSY):
            fail(error)
        return self.collect(count, True)

    cdef int release(self) except -1:
        # Another thread in wait() reads the rings once more, then lets go of them itself; a
        # forked child has no such thread.
        self.closed = True
        if not self.waiting or getpid() != self.owner:
            close_ring(&self.ring)
        return 0


cdef int refuse(int error) except -1:
    """Why there is no ring, in words where the number alone says little."""
    if error == ENOSYS:
        raise OSError("this kernel has no io_uring")
    if error == EINVAL:
        raise OSError("needs Linux 5.19")
    if error == EPERM:
        raise OSError(
            "forbidden by the system (sysctl kernel.io_uring_disabled) or by a sandbox (seccomp)"
        )
    return fail(abs(error))


cdef void *longer(void *array, size_t size) except NULL:
    cdef void *moved = PyMem_Realloc(array, size)
    if moved is NULL:
        raise MemoryError
    return moved


cdef uint64_t tag(int fd, unsigned generation) noexcept:
    return <uint64_t> generation << 32 | <uint32_t> fd


cdef short to_poll(int mask) noexcept:
    return (POLLIN if mask & READ else 0) | (POLLOUT if mask & WRITE else 0)


cdef int to_mask(int found, int asked) noexcept:
    """Hang-up and error wake both sides, kept to what was asked for."""
    return asked & (
        (READ if found & (POLLIN | WRONG) else 0) | (WRITE if found & (POLLOUT | WRONG) else 0))


class IoUring(UringMultiplexer, Selector):
    """io_uring as a ``selectors.BaseSelector``: Linux 5.19, any number of descriptors."""
