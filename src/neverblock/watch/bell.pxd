# The sentinel's thread, its lock, and the two bells that it and the reporter wait for.
#
# - All waits are by CLOCK_MONOTONIC, and end at most one step after a bell: no wake-up is lost.

from neverblock.engine.clock cimport now

cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <signal.h>
    #include <sys/prctl.h>
    #include <time.h>

    /* What ps -T and top -H show of the calling thread. */
    #define nb_be_named() prctl(PR_SET_NAME, "nb-watch")

    static int nb_bell_make(pthread_mutex_t *mutex, pthread_cond_t *bell, pthread_cond_t *post) {
        pthread_condattr_t kind;
        pthread_condattr_init(&kind);
    #ifndef __APPLE__
        pthread_condattr_setclock(&kind, CLOCK_MONOTONIC);
    #endif
        if (pthread_mutex_init(mutex, NULL) || pthread_cond_init(bell, &kind)
                || pthread_cond_init(post, &kind))
            return -1;
        return 0;
    }

    static void nb_bell_wait(pthread_cond_t *bell, pthread_mutex_t *mutex, double until) {
        struct timespec end;
        if (until < 0) {
            pthread_cond_wait(bell, mutex);
            return;
        }
        end.tv_sec = (time_t) until;
        end.tv_nsec = (long) ((until - (double) end.tv_sec) * 1e9);
        pthread_cond_timedwait(bell, mutex, &end);
    }

    /* No signal of the user's is for this thread. */
    static int nb_start(pthread_t *thread, void *(*body)(void *), void *argument) {
        sigset_t all, before;
        int error;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = pthread_create(thread, NULL, body, argument);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return error;
    }
    """
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef unsigned long pthread_t
    void nb_be_named() noexcept
    int nb_bell_make(
        pthread_mutex_t *mutex, pthread_cond_t *bell, pthread_cond_t *post) noexcept
    void nb_bell_wait(pthread_cond_t *bell, pthread_mutex_t *mutex, double until) noexcept
    int nb_start(pthread_t *thread, void *(*body)(void *) noexcept nogil, void *argument) noexcept
    int pthread_join(pthread_t thread, void **result)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_cond_signal(pthread_cond_t *condition)

cdef struct Bells:
    pthread_mutex_t mutex
    pthread_cond_t bell     # for the sentinel
    pthread_cond_t post     # for the reporter
    bint rung
    int quit                # for the sentinel
    bint pausing            # it is to be started again, and to go on
    bint ended              # for the reporter: nothing comes any more
    unsigned long long looks        # wake-ups of the sentinel


cdef inline void ring(Bells *self) noexcept nogil:
    pthread_mutex_lock(&self.mutex)
    self.rung = True
    pthread_cond_signal(&self.bell)
    pthread_mutex_unlock(&self.mutex)


# The sentinel's: until the bell rings, or for so many seconds; below 0: until it rings.
cdef inline void rest(Bells *self, double pause) noexcept nogil:
    cdef double until = -1 if pause < 0 else now() + pause
    pthread_mutex_lock(&self.mutex)
    while not self.rung and not self.quit:
        nb_bell_wait(&self.bell, &self.mutex, until)
        if until >= 0 and now() >= until:
            break
    self.rung = False
    self.looks += 1
    pthread_mutex_unlock(&self.mutex)
