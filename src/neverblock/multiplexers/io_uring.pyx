# The multiplexer over io_uring(7): requests to poll and their answers pass through shared memory.
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
# - The rings are memory shared with the kernel, and with a forked child, which may only let go of
#   them.

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport (
    EAGAIN, EBADF, EBUSY, EEXIST, EINTR, EINVAL, ENOENT, ENOSYS, EPERM, errno,
)
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.mman cimport MAP_FAILED, MAP_POPULATE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.time cimport timespec
from posix.unistd cimport close, getpid

from neverblock.multiplexers.base cimport (
    READ, WRITE, Multiplexer, awake, check, check_open, enter, fail, fall_asleep, interval,
    reserve,
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

cdef extern from "multiplexers/uring_abi.h" nogil:
    enum:
        NB_SETUP_CQSIZE
        NB_SETUP_CLAMP
        NB_SETUP_SUBMIT_ALL
        NB_SETUP_COOP_TASKRUN
        NB_SETUP_TASKRUN_FLAG
        NB_FEAT_SINGLE_MMAP
        NB_FEAT_NODROP
        NB_FEAT_EXT_ARG
        NB_FEAT_CQE_SKIP
        NB_FEAT_NO_IOWAIT
        NB_ENTER_GETEVENTS
        NB_ENTER_EXT_ARG
        NB_ENTER_NO_IOWAIT
        NB_OP_POLL_ADD
        NB_OP_ASYNC_CANCEL
        NB_POLL_ADD_MULTI
        NB_SQE_CQE_SKIP_SUCCESS
        NB_CQE_MORE
        NB_SQ_CQ_OVERFLOW
        NB_SQ_TASKRUN
        NB_OFF_RINGS
        NB_OFF_SQES

    struct nb_sq_offsets:
        uint32_t head, tail, ring_mask, ring_entries, flags, array

    struct nb_cq_offsets:
        uint32_t head, tail, ring_mask, ring_entries, cqes

    struct nb_uring_params:
        uint32_t sq_entries, cq_entries, flags, features
        nb_sq_offsets sq_off
        nb_cq_offsets cq_off

    struct nb_sqe:
        uint8_t opcode, flags
        int32_t fd
        uint64_t addr
        uint32_t len, op_flags
        uint64_t user_data

    struct nb_cqe:
        uint64_t user_data
        int32_t res
        uint32_t flags

    struct nb_uring_timespec:
        int64_t seconds
        int64_t nanoseconds

    struct nb_enter_argument:
        uint64_t timeout

    int nb_uring_setup(unsigned entries, nb_uring_params *params)
    int nb_uring_enter(
        int ring, unsigned submit, unsigned least, unsigned flags,
        const nb_enter_argument *argument)
    uint32_t nb_poll_bits(uint32_t bits)
    unsigned nb_acquire(unsigned *place)
    void nb_release(unsigned *place, unsigned value)

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
    cdef int ring, owner                    # its descriptor; the process that made it
    cdef void *rings
    cdef size_t rings_size, sqes_size
    cdef nb_sqe *sqes
    cdef nb_cqe *cqes
    cdef unsigned *sq_head
    cdef unsigned *sq_tail
    cdef unsigned *sq_flags
    cdef unsigned *cq_head
    cdef unsigned *cq_tail
    cdef unsigned sq_room, sq_mask, cq_mask, waiting_flags
    cdef Watch *watches                     # by descriptor; the arrays below are as long
    cdef int *unarmed                       # who needs a request; some may be dropped by now
    cdef int *listed                        # who may be ready; likewise
    cdef pollfd *probes
    cdef Py_ssize_t size, watched
    cdef int unarmed_count, listed_count

    def __cinit__(self):
        cdef nb_uring_params params
        self.ring = -1
        self.owner = getpid()
        memset(&params, 0, sizeof(params))
        params.flags = (
            NB_SETUP_CQSIZE | NB_SETUP_CLAMP | NB_SETUP_SUBMIT_ALL
            # The program is not interrupted for an answer; a flag says that there is one.
            | NB_SETUP_COOP_TASKRUN | NB_SETUP_TASKRUN_FLAG)
        params.cq_entries = ANSWERS
        self.ring = nb_uring_setup(REQUESTS, &params)
        if self.ring < 0:
            refuse(errno)
        if not has(&params, (
                NB_FEAT_SINGLE_MMAP | NB_FEAT_NODROP | NB_FEAT_EXT_ARG | NB_FEAT_CQE_SKIP)):
            refuse(EINVAL)
        self.waiting_flags = NB_ENTER_GETEVENTS | NB_ENTER_EXT_ARG
        if has(&params, NB_FEAT_NO_IOWAIT):     # else an idle loop counts as waiting for a disk
            self.waiting_flags |= NB_ENTER_NO_IOWAIT
        self.map(&params)

    def __dealloc__(self):
        self.release()
        PyMem_Free(self.watches)
        PyMem_Free(self.unarmed)
        PyMem_Free(self.listed)
        PyMem_Free(self.probes)

    cdef int map(self, nb_uring_params *params) except -1:
        cdef char *base
        cdef unsigned i
        cdef unsigned *order
        self.sqes_size = params.sq_entries * sizeof(nb_sqe)
        self.rings_size = max(
            params.sq_off.array + params.sq_entries * sizeof(uint32_t),
            params.cq_off.cqes + params.cq_entries * sizeof(nb_cqe))
        self.rings = shared(self.ring, self.rings_size, NB_OFF_RINGS)
        self.sqes = <nb_sqe *> shared(self.ring, self.sqes_size, NB_OFF_SQES)
        base = <char *> self.rings
        self.sq_head = <unsigned *> (base + params.sq_off.head)
        self.sq_tail = <unsigned *> (base + params.sq_off.tail)
        self.sq_flags = <unsigned *> (base + params.sq_off.flags)
        self.sq_mask = (<unsigned *> (base + params.sq_off.ring_mask))[0]
        self.sq_room = params.sq_entries
        self.cq_head = <unsigned *> (base + params.cq_off.head)
        self.cq_tail = <unsigned *> (base + params.cq_off.tail)
        self.cq_mask = (<unsigned *> (base + params.cq_off.ring_mask))[0]
        self.cqes = <nb_cqe *> (base + params.cq_off.cqes)
        order = <unsigned *> (base + params.sq_off.array)
        for i in range(params.sq_entries):
            order[i] = i
        return 0

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
            self.submit()
            # Whoever drops and never waits leaves an answer each time.
            if not self.waiting and nb_acquire(self.cq_tail) - self.cq_head[0] > ANSWERS // 2:
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
            self.submit()
        return 0

    # ---- requests

    cdef nb_sqe *request(self) except NULL:
        """The next free entry, empty; handed in by hand_in()."""
        cdef unsigned tail = self.sq_tail[0]
        cdef nb_sqe *entry
        if tail - nb_acquire(self.sq_head) >= self.sq_room:
            self.submit()
            if tail - nb_acquire(self.sq_head) >= self.sq_room:
                fail(EBUSY)
        entry = &self.sqes[tail & self.sq_mask]
        memset(entry, 0, sizeof(nb_sqe))
        return entry

    cdef void hand_in(self) noexcept:
        nb_release(self.sq_tail, self.sq_tail[0] + 1)
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

    cdef unsigned pending(self) noexcept:
        return self.sq_tail[0] - nb_acquire(self.sq_head)

    cdef void submit(self) noexcept:
        """Hand in what stands in the ring. What the kernel does not take now stays for later."""
        cdef unsigned pending = self.pending()
        if pending:
            nb_uring_enter(self.ring, pending, 0, 0, NULL)

    # ---- answers

    cdef int collect(self, int count, bint fresh) noexcept:
        """Take every answer; fresh: report them, from place `count`. Returns the next place."""
        cdef unsigned begin, head = self.cq_head[0]
        while True:
            begin = head
            while head != nb_acquire(self.cq_tail):
                count = self.take(&self.cqes[head & self.cq_mask], count, fresh)
                self.looked_at += 1
                head += 1
            nb_release(self.cq_head, head)
            if head == begin or not nb_acquire(self.sq_flags) & NB_SQ_CQ_OVERFLOW:
                return count
            nb_uring_enter(self.ring, 0, 0, NB_ENTER_GETEVENTS, NULL)    # the next ringful

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
                self.unmap()
        self.events_out += count
        return count

    cdef int ask(self, double timeout) except -1:
        cdef int taken, error, count
        cdef unsigned pending = self.pending(), least
        cdef timespec spec
        cdef nb_uring_timespec end
        cdef nb_enter_argument argument
        # First what has gone before: requests cancelled, answers that the kernel holds back.
        if pending or nb_acquire(self.sq_flags) & (NB_SQ_TASKRUN | NB_SQ_CQ_OVERFLOW):
            nb_uring_enter(self.ring, pending, 0, NB_ENTER_GETEVENTS, NULL)
        self.collect(0, False)
        count = self.look()
        if count == INTERRUPTED:
            return 0
        self.arm_all()
        pending = self.pending()
        if pending == 0 and (count or timeout == 0):
            return count        # and not one system call, where nobody may be ready
        least = 1
        memset(&argument, 0, sizeof(argument))
        if count or timeout == 0:
            least = 0
        elif interval(timeout, &spec) is not NULL:
            end.seconds = spec.tv_sec
            end.nanoseconds = spec.tv_nsec
            argument.timeout = <uint64_t> <size_t> &end
        with nogil:
            fall_asleep(self)
            taken = nb_uring_enter(self.ring, pending, least, self.waiting_flags, &argument)
            error = errno
            awake(self)
        # Where requests were handed in, how the wait ended is not told: there are answers or none.
        if taken < 0 and error not in (EINTR, ETIME, EAGAIN, EBUSY):
            fail(error)
        return self.collect(count, True)

    cdef int release(self) except -1:
        # Another thread in wait() reads the rings once more, then lets go of them itself; a
        # forked child has no such thread.
        self.closed = True
        if not self.waiting or getpid() != self.owner:
            self.unmap()
        return 0

    cdef void unmap(self) noexcept:
        cdef int ring = self.ring
        self.ring = -1
        if self.rings is not NULL:
            munmap(self.rings, self.rings_size)
        if self.sqes is not NULL:
            munmap(self.sqes, self.sqes_size)
        self.rings = NULL
        self.sqes = NULL
        if ring >= 0:
            close(ring)


cdef bint has(nb_uring_params *params, unsigned features) noexcept:
    return params.features & features == features


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
    return fail(error)


cdef void *shared(int ring, size_t size, int64_t offset) except NULL:
    cdef void *place = mmap(
        NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, offset)
    if place == MAP_FAILED:
        fail(errno)
    return place


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
