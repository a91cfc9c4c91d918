/* The physical limit: a bare epoll echo server, one thread, level-triggered.
 *
 *     echo_server --bind tcp:0 --core 0      prints "listening tcp:PORT"
 *
 * Per ready connection one read and one write, nothing kept per connection but its descriptor:
 * what any readiness loop has to do at least. A connection whose peer does not take its reply
 * holds the rest and is not read until that has gone.
 */
#include "common.h"
#include <signal.h>

enum { BATCH = 1024, READ_SIZE = 256 * 1024 };

struct connection {
    int fd;
    char *unsent;
    size_t begin, end;
};

static char buffer[READ_SIZE];

static void drop(struct connection *connection)
{
    close(connection->fd);
    free(connection->unsent);
    free(connection);
}

static void accept_all(int epoll, int listener, const struct address *address)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        if (!connection)
            fail("calloc");
        connection->fd = fd;
        set_nodelay(fd, address);
        watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, connection);
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        fail("accept4");
}

static void flush(int epoll, struct connection *connection)
{
    while (connection->begin < connection->end) {
        ssize_t sent = write(connection->fd, connection->unsent + connection->begin,
                             connection->end - connection->begin);
        if (sent < 0 && errno == EAGAIN)
            return;
        if (sent < 0) {
            drop(connection);
            return;
        }
        connection->begin += (size_t)sent;
    }
    free(connection->unsent);
    connection->unsent = NULL;
    watch(epoll, EPOLL_CTL_MOD, connection->fd, EPOLLIN, connection);
}

static void echo(int epoll, struct connection *connection)
{
    ssize_t got = read(connection->fd, buffer, sizeof buffer);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        drop(connection);
        return;
    }
    ssize_t sent = write(connection->fd, buffer, (size_t)got);
    if (sent == got)
        return;
    if (sent < 0 && errno != EAGAIN) {
        drop(connection);
        return;
    }
    if (sent < 0)
        sent = 0;
    connection->begin = 0;
    connection->end = (size_t)(got - sent);
    connection->unsent = malloc(connection->end);
    if (!connection->unsent)
        fail("malloc");
    memcpy(connection->unsent, buffer + sent, connection->end);
    watch(epoll, EPOLL_CTL_MOD, connection->fd, EPOLLOUT, connection);
}

int main(int argc, char **argv)
{
    const char *bind_to = option(argc, argv, "--bind", "tcp:0");
    struct address address = parse_address(bind_to);
    static struct epoll_event events[BATCH];
    int one = 1;

    pin_to_core(atoi(option(argc, argv, "--core", "-1")));
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0)
        fail("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, &address.any, address.length) < 0 || listen(listener, 4096) < 0)
        fail("cannot listen on %s", bind_to);
    if (address.any.sa_family == AF_INET) {
        if (getsockname(listener, &address.any, &address.length) < 0)
            fail("getsockname");
        printf("listening tcp:%d\n", ntohs(address.inet.sin_port));
    } else {
        printf("listening %s\n", bind_to);
    }
    fflush(stdout);

    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        fail("epoll_create1");
    watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        int count = epoll_wait(epoll, events, BATCH, -1);
        if (count < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (!connection)
                accept_all(epoll, listener, &address);
            else if (connection->unsent)
                flush(epoll, connection);
            else
                echo(epoll, connection);
        }
    }
}
