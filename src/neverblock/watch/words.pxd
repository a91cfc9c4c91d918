# What can be said of a stall while somebody holds the GIL, and nobody else could: two lines for
# people, or a JSON object with the names of the log's fields.

from libc.stdio cimport snprintf
from libc.string cimport strlen
from posix.unistd cimport getpid, write

from neverblock.watch.bell cimport pthread_mutex_lock, pthread_mutex_unlock
from neverblock.watch.json_text cimport (
    Object, add_false, add_number, add_seconds, add_string, close_line,
)
from neverblock.watch.kernel cimport nb_call_name
from neverblock.watch.mail cimport Event, at_gil
from neverblock.watch.text cimport NAME, begins, file_of, function_of, own_line, source_line
from neverblock.watch.walker cimport Stack
from neverblock.watch.watched cimport Watched

cdef extern from * nogil:
    """
    #include <time.h>
    #include <string.h>

    /* ISO 8601, UTC, as the log's. */
    static void nb_now_in_words(char *into, size_t room) {
        struct timespec moment;
        struct tm parts;
        char seconds[32];
        clock_gettime(CLOCK_REALTIME, &moment);
        gmtime_r(&moment.tv_sec, &parts);
        strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &parts);
        snprintf(into, room, "%s.%03dZ", seconds, (int) (moment.tv_nsec / 1000000));
    }
    """
    void nb_now_in_words(char *into, size_t room) noexcept

cdef enum:
    MESSAGE = 4 * NAME

cdef struct Words:
    const char *cause       # one of stall.Cause
    char[NAME] detail
    char[NAME] source
    char[MESSAGE] message


cdef inline void tell(Watched *self, Event *event) noexcept nogil:
    cdef Words words
    cdef Object line
    cdef bint mine
    find_cause(self, event, &words)
    compose(self, event, &words)
    # Said first: the reporter may come to it while we write.
    event.told = True
    pthread_mutex_lock(&self.bells.mutex)
    mine = self.reported != event.stall
    if mine:
        self.written = event.stall
        if self.mail.queued:    # it is the last one: no other is posted while it goes on
            self.mail.last[0] = event[0]
    pthread_mutex_unlock(&self.bells.mutex)
    if not mine or self.output < 0:
        return
    if self.json:
        compose_json(self, event, &words, &line)
        write(self.output, line.text, line.used)
    else:
        write(self.output, words.message, strlen(words.message))


cdef inline void find_cause(Watched *self, const Event *event, Words *words) noexcept nogil:
    cdef double lasted = event.at - event.began
    cdef const char *name
    cdef int line
    words.detail[0] = 0
    if event.used.queued >= lasted / 2:
        words.cause = b"not scheduled by the system"
    elif event.collecting:
        words.cause = b"garbage collection"
    elif event.used.cpu + event.used.queued >= lasted / 2:
        words.cause = b"computing in C, GIL held"
    elif at_gil(&event.call, self.gil[0]):
        words.cause = b"waiting for the GIL"
        line = -1
        if event.busy:
            line = own_line(&event.busy_stack, self.library, self.outermost)
        if line >= 0:
            snprintf(
                words.detail, NAME, "held by another thread at %.200s:%d in %.100s",
                shown(self, &event.busy_stack, line), event.busy_stack.lines[line].number,
                function_of(&event.busy_stack, line))
    else:
        words.cause = b"not known"
        name = nb_call_name(event.call.number)
        if name is NULL:
            name = b"a system call"
        snprintf(words.detail, NAME, "in %s, GIL held", name)


cdef inline void compose(Watched *self, const Event *event, Words *words) noexcept nogil:
    cdef const Stack *stack = &event.stack
    cdef int line = own_line(stack, self.library, self.outermost)
    cdef double milliseconds = (event.at - event.began) * 1e3
    cdef char[2 * NAME] why
    if words.detail[0] == 0:
        snprintf(why, sizeof(why), "%s", words.cause)
    elif begins(words.cause, "not known"):
        snprintf(why, sizeof(why), "%s", words.detail)
    else:
        snprintf(why, sizeof(why), "%s, %s", words.cause, words.detail)
    words.source[0] = 0
    if line >= 0:
        source_line(stack, line, words.source)
        snprintf(
            words.message, MESSAGE,
            "neverblock: loop blocked %.0f ms and counting: %.300s:%d in %.200s\n"
            "    %-46.200s %.400s\n",
            milliseconds, shown(self, stack, line), stack.lines[line].number,
            function_of(stack, line), words.source, why)
    else:
        snprintf(
            words.message, MESSAGE, "neverblock: loop blocked %.0f ms and counting: %s%.400s\n",
            milliseconds, b"a callback without Python code, " if event.sampled else b"", why)


cdef inline void compose_json(
        Watched *self, const Event *event, Words *words, Object *line) noexcept nogil:
    cdef char[48] moment
    cdef const Stack *stack = &event.stack
    cdef int own = own_line(stack, self.library, self.outermost)
    nb_now_in_words(moment, sizeof(moment))
    words.message[strlen(words.message) - 1] = 0     # less the end of its line
    line.used = 0
    add_string(line, "time", moment)
    add_string(line, "level", "WARNING")
    add_string(line, "logger", "neverblock.watch")
    add_string(line, "message", words.message)
    add_number(line, "pid", getpid())
    add_false(line, "stall_over")
    add_seconds(line, "stall_seconds", event.at - event.began)
    add_string(line, "stall_cause", words.cause)
    add_string(line, "stall_detail", words.detail)
    if own >= 0:
        add_string(line, "stall_file", file_of(stack, own))
        add_number(line, "stall_line", stack.lines[own].number)
        add_string(line, "stall_function", function_of(stack, own))
        add_string(line, "stall_source", words.source)
    add_seconds(line, "stall_cpu_seconds", event.used.cpu)
    add_seconds(line, "stall_queued_seconds", event.used.queued)
    close_line(line)


cdef inline const char *shown(Watched *self, const Stack *stack, int line) noexcept nogil:
    cdef const char *file = file_of(stack, line)
    if self.directory[0] and begins(file, self.directory):
        return file + strlen(self.directory)
    return file
