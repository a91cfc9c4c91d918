/* What the benchmark's C programs share: addresses, errors, clocks, options.
 *
 * Every program is one thread on one core and talks JSON lines or plain words on stdout.
 * An error ends the program with one line on stderr and status 1.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    int saved = errno;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, saved ? ": %s\n" : "\n", strerror(saved));
    exit(1);
}

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        fail("clock_gettime");
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void pin_to_core(int core)
{
    cpu_set_t cores;
    if (core < 0)
        return;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores) < 0)
        fail("cannot pin to core %d", core);
}

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in inet;
        struct sockaddr_un local;
    };
    socklen_t length;
};

/* "tcp:PORT" is 127.0.0.1:PORT; "unix:PATH" is a stream socket of that path. */
static inline struct address parse_address(const char *text)
{
    struct address address;
    memset(&address, 0, sizeof address);
    if (strncmp(text, "tcp:", 4) == 0) {
        address.inet.sin_family = AF_INET;
        address.inet.sin_port = htons((uint16_t)atoi(text + 4));
        address.inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.length = sizeof address.inet;
    } else if (strncmp(text, "unix:", 5) == 0) {
        address.local.sun_family = AF_UNIX;
        if (strlen(text + 5) >= sizeof address.local.sun_path) {
            errno = 0;
            fail("unix path too long: %s", text + 5);
        }
        strcpy(address.local.sun_path, text + 5);
        address.length = sizeof address.local;
    } else {
        errno = 0;
        fail("not an address: %s (write tcp:PORT or unix:PATH)", text);
    }
    return address;
}

static inline void set_nodelay(int fd, const struct address *address)
{
    int one = 1;
    if (address->any.sa_family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static inline void watch(int epoll, int operation, int fd, uint32_t events, void *data)
{
    struct epoll_event event = {.events = events, .data = {.ptr = data}};
    if (epoll_ctl(epoll, operation, fd, &event) < 0)
        fail("epoll_ctl");
}

/* The value of --name VALUE, or the given default; a NULL default makes it required. */
static inline const char *option(int argc, char **argv, const char *name, const char *otherwise)
{
    for (int i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    if (!otherwise) {
        errno = 0;
        fail("%s: %s is missing", argv[0], name);
    }
    return otherwise;
}

#endif
