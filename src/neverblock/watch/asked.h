/* Asks a thread for something by a signal, and waits until its handler has done it.
 *
 * - One thread is asked at a time. The handler runs in it, wherever it is, and calls
 *   async-signal-safe functions alone; errno is what it was.
 * - A signal that comes late, or from somebody else, finds that nobody asked and does nothing.
 */

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int nb_wanted;               /* thread id; negative: it is at it; 0: nobody, or done */
static void (*nb_answer)(void);
static struct sigaction nb_before;

static int nb_thread_id(void) {
    return (int) syscall(SYS_gettid);
}

static int nb_becomes(int from, int to) {
    return __atomic_compare_exchange_n(
        &nb_wanted, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void nb_on_signal(int signum) {
    int saved = errno, here = nb_thread_id();
    (void) signum;
    if (nb_becomes(here, -here)) {
        nb_answer();
        __atomic_store_n(&nb_wanted, 0, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &nb_wanted, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    errno = saved;
}

static int nb_installed(int signum) {
    struct sigaction now;
    return sigaction(signum, NULL, &now) == 0 && now.sa_handler == nb_on_signal;
}

/* On the alternate stack where the thread has one; what can be restarted is. */
static int nb_install(int signum, void (*answer)(void)) {
    struct sigaction ours;
    nb_answer = answer;
    ours.sa_handler = nb_on_signal;
    ours.sa_flags = SA_RESTART | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    return sigaction(signum, &ours, &nb_before);
}

/* Somebody else's handler by now stays. A signal on its way must not find the default action, which
 * would end the process: from now on it is ignored. */
static int nb_uninstall(int signum) {
    struct sigaction ignored = nb_before;
    if (!nb_installed(signum))
        return 0;
    if (nb_before.sa_handler == SIG_DFL) {
        /* What is pending for any thread goes with it. */
        ignored.sa_handler = SIG_IGN;
        sigaction(signum, &ignored, NULL);
    }
    return sigaction(signum, &nb_before, NULL);
}

static void nb_forget(void) {
    __atomic_store_n(&nb_wanted, 0, __ATOMIC_SEQ_CST);
}

/* Waits while it is `value`; until `end` on CLOCK_MONOTONIC, NULL: without end. 0: the time is up. */
static int nb_wait(int value, const struct timespec *end) {
    return syscall(
        SYS_futex, &nb_wanted, FUTEX_WAIT_BITSET_PRIVATE, value, end, NULL,
        FUTEX_BITSET_MATCH_ANY) == 0 || errno != ETIMEDOUT;
}

/* 1: the thread has answered; 0: it did not come to it in time, or is gone. */
static int nb_ask(int thread, int signum, int milliseconds) {
    struct timespec end;
    /* Its default action would end the process. */
    if (!nb_installed(signum))
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += milliseconds * 1000000L;
    end.tv_sec += end.tv_nsec / 1000000000L;
    end.tv_nsec %= 1000000000L;
    __atomic_store_n(&nb_wanted, thread, __ATOMIC_SEQ_CST);
    if (syscall(SYS_tgkill, getpid(), thread, signum) == 0)
        while (__atomic_load_n(&nb_wanted, __ATOMIC_SEQ_CST) == thread && nb_wait(thread, &end))
            ;
    if (nb_becomes(thread, 0))
        return 0;
    /* It is at it, and needs nobody for it. */
    while (__atomic_load_n(&nb_wanted, __ATOMIC_SEQ_CST) == -thread)
        nb_wait(-thread, NULL);
    return 1;
}
