/* Makes a thread write down its own stack: a signal whose handler is faulthandler's.
 *
 * - nb_dump_request() is for one thread at a time, without the GIL; the handler runs in the thread
 *   that was asked, wherever that is, and calls async-signal-safe functions alone.
 * - A signal that comes late, or from somebody else, finds that nobody asked and does nothing.
 */

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int nb_wanted;               /* thread id; negative: it is at it; 0: nobody, or done */
static void (*nb_dump)(int);        /* faulthandler's handler */
static struct sigaction nb_before;  /* as faulthandler installed it */

static int nb_thread_id(void) {
    return (int) syscall(SYS_gettid);
}

static void nb_on_signal(int signum) {
    int saved = errno, here = nb_thread_id(), expected = here;
    if (__atomic_compare_exchange_n(
            &nb_wanted, &expected, -here, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        nb_dump(signum);
        __atomic_store_n(&nb_wanted, 0, __ATOMIC_SEQ_CST);
    }
    errno = saved;
}

/* In front of the handler that faulthandler.register() installed. */
static int nb_dump_install(int signum) {
    struct sigaction ours;
    if (sigaction(signum, NULL, &nb_before) < 0)
        return -1;
    nb_dump = nb_before.sa_handler;
    ours = nb_before;
    ours.sa_handler = nb_on_signal;
    return sigaction(signum, &ours, NULL);
}

static int nb_dump_installed(int signum) {
    struct sigaction now;
    return sigaction(signum, NULL, &now) == 0 && now.sa_handler == nb_on_signal;
}

static int nb_dump_uninstall(int signum) {
    /* Somebody else's handler by now stays. */
    return nb_dump_installed(signum) ? sigaction(signum, &nb_before, NULL) : 0;
}

static void nb_dump_forget(void) {
    __atomic_store_n(&nb_wanted, 0, __ATOMIC_SEQ_CST);
}

static void nb_pause(long nanoseconds) {
    struct timespec pause = {0, nanoseconds};
    nanosleep(&pause, NULL);
}

/* 1: the thread has written its stack; 0: it did not come to it in time, or is gone. */
static int nb_dump_request(int thread, int signum, int milliseconds) {
    int expected = thread;
    long tries = milliseconds * 20L;
    /* Its default action would end the process. */
    if (!nb_dump_installed(signum))
        return 0;
    __atomic_store_n(&nb_wanted, thread, __ATOMIC_SEQ_CST);
    if (syscall(SYS_tgkill, getpid(), thread, signum) == 0)
        while (tries-- > 0) {
            if (__atomic_load_n(&nb_wanted, __ATOMIC_SEQ_CST) == 0)
                return 1;
            nb_pause(50000);
        }
    if (__atomic_compare_exchange_n(
            &nb_wanted, &expected, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return 0;
    /* It is at it: what it writes to never blocks. */
    while (__atomic_load_n(&nb_wanted, __ATOMIC_SEQ_CST) != 0)
        nb_pause(50000);
    return 1;
}
