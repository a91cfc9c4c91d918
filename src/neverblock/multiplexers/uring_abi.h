/* io_uring's part of the kernel's interface that a multiplexer needs: io_uring_setup(2),
 * io_uring_enter(2). Under names of ours, so that headers of any age will do. */
#ifndef NEVERBLOCK_URING_ABI_H
#define NEVERBLOCK_URING_ABI_H

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_io_uring_setup      /* one number for all, but for Alpha */
#define SYS_io_uring_setup 425
#endif
#ifndef SYS_io_uring_enter
#define SYS_io_uring_enter 426
#endif

#define NB_SETUP_CQSIZE (1U << 3)
#define NB_SETUP_CLAMP (1U << 4)
#define NB_SETUP_SUBMIT_ALL (1U << 7)       /* 5.18 */
#define NB_SETUP_COOP_TASKRUN (1U << 8)     /* 5.19 */
#define NB_SETUP_TASKRUN_FLAG (1U << 9)     /* 5.19 */

#define NB_FEAT_SINGLE_MMAP (1U << 0)       /* 5.4 */
#define NB_FEAT_NODROP (1U << 1)            /* 5.5 */
#define NB_FEAT_EXT_ARG (1U << 8)           /* 5.11 */
#define NB_FEAT_CQE_SKIP (1U << 11)         /* 5.17 */
#define NB_FEAT_NO_IOWAIT (1U << 17)        /* 6.15 */

#define NB_ENTER_GETEVENTS (1U << 0)
#define NB_ENTER_EXT_ARG (1U << 3)
#define NB_ENTER_NO_IOWAIT (1U << 7)

#define NB_OP_POLL_ADD 6
#define NB_OP_ASYNC_CANCEL 14
#define NB_POLL_ADD_MULTI (1U << 0)
#define NB_SQE_CQE_SKIP_SUCCESS (1U << 6)
#define NB_CQE_MORE (1U << 1)

#define NB_SQ_CQ_OVERFLOW (1U << 1)
#define NB_SQ_TASKRUN (1U << 2)

#define NB_OFF_RINGS 0
#define NB_OFF_SQES 0x10000000

struct nb_sq_offsets {
    uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved;
    uint64_t user_addr;
};

struct nb_cq_offsets {
    uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved;
    uint64_t user_addr;
};

struct nb_uring_params {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd;
    uint32_t reserved[3];
    struct nb_sq_offsets sq_off;
    struct nb_cq_offsets cq_off;
};

struct nb_sqe {
    uint8_t opcode, flags;
    uint16_t ioprio;
    int32_t fd;
    uint64_t off, addr;
    uint32_t len, op_flags;
    uint64_t user_data, more[3];
};

struct nb_cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

struct nb_uring_timespec {
    int64_t seconds, nanoseconds;
};

struct nb_enter_argument {
    uint64_t sigmask;
    uint32_t sigmask_size, reserved;
    uint64_t timeout;       /* address of a nb_uring_timespec; 0: no end */
};

static inline int nb_uring_setup(unsigned entries, struct nb_uring_params *params) {
    return (int) syscall(SYS_io_uring_setup, entries, params);
}

static inline int nb_uring_enter(int ring, unsigned submit, unsigned least, unsigned flags,
                                 const struct nb_enter_argument *argument) {
    return (int) syscall(SYS_io_uring_enter, ring, submit, least, flags, argument,
                         argument ? sizeof(*argument) : 0);
}

/* poll's bits as a request has them: words change places on a big-endian machine. */
static inline uint32_t nb_poll_bits(uint32_t bits) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return bits << 16 | bits >> 16;
#else
    return bits;
#endif
}

/* Heads and tails of the rings: the other side is the kernel. */
#define nb_acquire(place) __atomic_load_n(place, __ATOMIC_ACQUIRE)
#define nb_release(place, value) __atomic_store_n(place, value, __ATOMIC_RELEASE)

#endif
