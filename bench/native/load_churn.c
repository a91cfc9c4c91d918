/* The soak's client: connect, send, check the echo, close; over and over.
 *
 *     load_churn --connect tcp:PORT --cycles 1000000 --parallel 64 --size 1024
 *
 * Prints the number of cycles done, one number a line, --reports times in all. Source addresses
 * walk 127.0.0.1-127.0.0.64, so that ports in TIME_WAIT never run out. Every second client
 * half-closes and waits for the server's end; the others close at once.
 */
#include "common.h"

enum { BATCH = 256, SOURCES = 64 };

struct connection {
    int fd;
    long number;
    size_t received;
    int ending;
};

static struct address server;
static const char *connect_to;
static char *message, *reply;
static size_t size;
static long started, finished, cycles, report_every;

static void start(int epoll, struct connection *connection)
{
    int one = 1;
    if (started == cycles) {
        connection->fd = -1;
        return;
    }
    connection->number = started++;
    connection->received = 0;
    connection->ending = 0;
    connection->fd = socket(server.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        fail("socket");
    if (server.any.sa_family == AF_INET) {
        struct sockaddr_in source = {.sin_family = AF_INET};
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(connection->number % SOURCES));
        setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(connection->fd, (struct sockaddr *)&source, sizeof source) < 0)
            fail("bind");
    }
    if (connect(connection->fd, &server.any, server.length) < 0)
        fail("cannot connect to %s (cycle %ld)", connect_to, connection->number);
    if (write(connection->fd, message, size) != (ssize_t)size)
        fail("the server broke cycle %ld (write)", connection->number);
    watch(epoll, EPOLL_CTL_ADD, connection->fd, EPOLLIN, connection);
}

static void finish(int epoll, struct connection *connection)
{
    close(connection->fd);
    finished++;
    if (finished % report_every == 0 || finished == cycles) {
        printf("%ld\n", finished);
        fflush(stdout);
    }
    start(epoll, connection);
}

static void advance(int epoll, struct connection *connection)
{
    ssize_t got = recv(connection->fd, reply, size, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got < 0)
        fail("the server broke cycle %ld (read)", connection->number);
    if (got == 0) {
        if (!connection->ending) {
            errno = 0;
            fail("the server ended cycle %ld after %zu of %zu bytes", connection->number,
                 connection->received, size);
        }
        finish(epoll, connection);
        return;
    }
    if (connection->received + (size_t)got > size ||
        memcmp(reply, message + connection->received, (size_t)got) != 0) {
        errno = 0;
        fail("the server sent other bytes than it was sent (cycle %ld)", connection->number);
    }
    connection->received += (size_t)got;
    if (connection->received < size)
        return;
    if (connection->number % 2 == 0) {
        finish(epoll, connection);
        return;
    }
    connection->ending = 1;
    if (shutdown(connection->fd, SHUT_WR) < 0)
        fail("shutdown");
}

int main(int argc, char **argv)
{
    static struct epoll_event events[BATCH];
    connect_to = option(argc, argv, "--connect", NULL);
    server = parse_address(connect_to);
    cycles = atol(option(argc, argv, "--cycles", "1000000"));
    report_every = cycles / atol(option(argc, argv, "--reports", "200"));
    if (report_every == 0)
        report_every = 1;
    int parallel = atoi(option(argc, argv, "--parallel", "64"));
    size = (size_t)atol(option(argc, argv, "--size", "1024"));

    message = malloc(size);
    reply = malloc(size);
    struct connection *all = calloc((size_t)parallel, sizeof *all);
    if (!message || !reply || !all)
        fail("malloc");
    for (size_t i = 0; i < size; i++)
        message[i] = (char)(i * 131 + (i >> 8));
    pin_to_core(atoi(option(argc, argv, "--core", "-1")));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        fail("epoll_create1");
    for (int i = 0; i < parallel; i++)
        start(epoll, &all[i]);
    while (finished < cycles) {
        int count = epoll_wait(epoll, events, BATCH, 10000);
        if (count == 0) {
            errno = 0;
            fail("no reply from the server for 10 seconds after %ld cycles", finished);
        }
        if (count < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < count; i++)
            advance(epoll, events[i].data.ptr);
    }
    return 0;
}
