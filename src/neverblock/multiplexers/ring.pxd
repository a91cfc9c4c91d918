# io_uring(7)'s rings: requests to the kernel and its answers, in memory shared with it.
#
# - One thread at a time makes requests and takes answers. Only await_answers() runs without the
#   GIL.
# - A request is filled first and published then; it is the kernel's once it was submitted. What the
#   kernel does not take stays in the ring for later.
# - The kernel keeps what finds no room among the answers, and gives it when there is room again: no
#   answer is lost.
# - The memory is shared with a forked child, too, which may only close the ring: that ends the
#   child's part alone.

from libc.errno cimport EINVAL, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.mman cimport MAP_FAILED, MAP_POPULATE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.time cimport timespec
from posix.unistd cimport close

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

cdef struct Ring:
    bint opened
    int fd
    void *memory            # both rings
    nb_sqe *sqes
    nb_cqe *cqes
    size_t memory_size, sqes_size
    unsigned *sq_head
    unsigned *sq_tail
    unsigned *sq_flags
    unsigned *cq_head
    unsigned *cq_tail
    unsigned room, sq_mask, cq_mask
    unsigned waiting_flags


# 0, or an errno: ENOSYS and EINVAL where the kernel has no io_uring, or an older one. Below 0: that
# of mmap(2), which says nothing of the kernel.
cdef inline int open_ring(Ring *self, unsigned requests, unsigned answers) noexcept:
    cdef nb_uring_params params
    cdef int error
    memset(&params, 0, sizeof(params))
    params.flags = (
        NB_SETUP_CQSIZE | NB_SETUP_CLAMP | NB_SETUP_SUBMIT_ALL
        # The program is not interrupted for an answer; a flag says that there is one.
        | NB_SETUP_COOP_TASKRUN | NB_SETUP_TASKRUN_FLAG)
    params.cq_entries = answers
    self.fd = nb_uring_setup(requests, &params)
    if self.fd < 0:
        return errno
    self.opened = True
    error = EINVAL
    if has(&params, NB_FEAT_SINGLE_MMAP | NB_FEAT_NODROP | NB_FEAT_EXT_ARG | NB_FEAT_CQE_SKIP):
        error = share(self, &params)
    if error:
        close_ring(self)
    return error


cdef inline bint has(nb_uring_params *params, unsigned features) noexcept:
    return params.features & features == features


cdef inline int share(Ring *self, nb_uring_params *params) noexcept:
    cdef char *base
    cdef unsigned i
    cdef unsigned *order
    self.sqes_size = params.sq_entries * sizeof(nb_sqe)
    self.memory_size = max(
        params.sq_off.array + params.sq_entries * sizeof(uint32_t),
        params.cq_off.cqes + params.cq_entries * sizeof(nb_cqe))
    self.memory = mapped(self.fd, self.memory_size, NB_OFF_RINGS)
    if self.memory is NULL:
        return -errno
    self.sqes = <nb_sqe *> mapped(self.fd, self.sqes_size, NB_OFF_SQES)
    if self.sqes is NULL:
        return -errno
    base = <char *> self.memory
    self.sq_head = <unsigned *> (base + params.sq_off.head)
    self.sq_tail = <unsigned *> (base + params.sq_off.tail)
    self.sq_flags = <unsigned *> (base + params.sq_off.flags)
    self.sq_mask = (<unsigned *> (base + params.sq_off.ring_mask))[0]
    self.room = params.sq_entries
    self.cq_head = <unsigned *> (base + params.cq_off.head)
    self.cq_tail = <unsigned *> (base + params.cq_off.tail)
    self.cq_mask = (<unsigned *> (base + params.cq_off.ring_mask))[0]
    self.cqes = <nb_cqe *> (base + params.cq_off.cqes)
    order = <unsigned *> (base + params.sq_off.array)
    for i in range(params.sq_entries):
        order[i] = i
    self.waiting_flags = NB_ENTER_GETEVENTS | NB_ENTER_EXT_ARG
    if has(params, NB_FEAT_NO_IOWAIT):      # else an idle loop counts as waiting for a disk
        self.waiting_flags |= NB_ENTER_NO_IOWAIT
    return 0


cdef inline void *mapped(int fd, size_t size, int64_t offset) noexcept:
    cdef void *place = mmap(
        NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset)
    return NULL if place == MAP_FAILED else place


# Idempotent; also for a ring that was never opened, all zeros.
cdef inline void close_ring(Ring *self) noexcept:
    if not self.opened:
        return
    self.opened = False
    if self.memory is not NULL:
        munmap(self.memory, self.memory_size)
    if self.sqes is not NULL:
        munmap(self.sqes, self.sqes_size)
    self.memory = NULL
    self.sqes = NULL
    close(self.fd)


# The next free request, empty. NULL: the ring is full, and the kernel takes none now.
cdef inline nb_sqe *new_request(Ring *self) noexcept:
    cdef unsigned tail = self.sq_tail[0]
    cdef nb_sqe *entry
    if tail - nb_acquire(self.sq_head) >= self.room:
        submit(self)
        if tail - nb_acquire(self.sq_head) >= self.room:
            return NULL
    entry = &self.sqes[tail & self.sq_mask]
    memset(entry, 0, sizeof(nb_sqe))
    return entry


cdef inline void publish(Ring *self) noexcept:
    nb_release(self.sq_tail, self.sq_tail[0] + 1)


# Requests that were published, and that the kernel has not taken.
cdef inline unsigned pending(Ring *self) noexcept:
    return self.sq_tail[0] - nb_acquire(self.sq_head)


cdef inline void submit(Ring *self) noexcept:
    cdef unsigned count = pending(self)
    if count:
        nb_uring_enter(self.fd, count, 0, 0, NULL)


# Whether the kernel holds answers back until it is entered.
cdef inline bint holds_back(Ring *self) noexcept:
    return nb_acquire(self.sq_flags) & (NB_SQ_TASKRUN | NB_SQ_CQ_OVERFLOW) != 0


# Submit, and let the kernel put all answers into the ring that are due and find room.
cdef inline void exchange(Ring *self) noexcept:
    nb_uring_enter(self.fd, pending(self), 0, NB_ENTER_GETEVENTS, NULL)


# Answers in the ring.
cdef inline unsigned answers(Ring *self) noexcept:
    return nb_acquire(self.cq_tail) - self.cq_head[0]


# Take the oldest; False: there is none, and the kernel keeps none.
cdef inline bint next_answer(Ring *self, nb_cqe *answer) noexcept:
    cdef unsigned head = self.cq_head[0]
    if head == nb_acquire(self.cq_tail):
        if not nb_acquire(self.sq_flags) & NB_SQ_CQ_OVERFLOW:
            return False
        nb_uring_enter(self.fd, 0, 0, NB_ENTER_GETEVENTS, NULL)
        if head == nb_acquire(self.cq_tail):
            return False
    answer[0] = self.cqes[head & self.cq_mask]
    nb_release(self.cq_head, head + 1)
    return True


# Submit so many, and wait for so many answers, for a time; NULL: without end. Returns 0, or an
# errno: ETIME where the time was up, EINTR for a signal. Where requests were submitted how the wait
# ended is not told: there are answers or none.
cdef inline int await_answers(
        Ring *self, unsigned count, unsigned least, const timespec *span) noexcept nogil:
    cdef nb_uring_timespec end
    cdef nb_enter_argument argument
    memset(&argument, 0, sizeof(argument))
    if span is not NULL:
        end.seconds = span.tv_sec
        end.nanoseconds = span.tv_nsec
        argument.timeout = <uint64_t> <size_t> &end
    if nb_uring_enter(self.fd, count, least, self.waiting_flags, &argument) < 0:
        return errno
    return 0
