/* The echo rows' client: a closed loop over many connections, the same for every server.
 *
 *     load_echo --connect tcp:PORT --connections 64 --size 1024 --warmup 0.5 --seconds 1.5
 *               --core 1 --server-pid PID
 *
 * Each connection sends one message, waits for the whole echo, checks every byte and sends the
 * next. After the warm-up it reads the server's and its own clocks, counts echoes for the window
 * and prints one JSON object; reading the clocks here keeps them on the window's very edges.
 * CPU times are nanoseconds over all threads of the process; "wait" is time a process was ready
 * to run but its core was taken by another (run delay, /proc/PID/schedstat): noise from
 * neighbours.
 */
#include "common.h"
#include <dirent.h>
#include <fcntl.h>

enum { BATCH = 1024 };

struct connection {
    int fd;
    size_t sent, received;
};

struct reading {
    int64_t wall, server_cpu, server_wait, client_cpu, client_wait;
    long server_user, server_system;
};

static char *message, *reply;
static size_t size;
static long echoes;

static int64_t run_delay(int pid)
{
    char path[300];
    int64_t total = 0;
    struct dirent *entry;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        fail("the server (process %d) is gone", pid);
    while ((entry = readdir(tasks))) {
        long long ran, waited;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        if (fscanf(file, "%lld %lld", &ran, &waited) == 2)
            total += waited;
        fclose(file);
    }
    closedir(tasks);
    return total;
}

static struct reading read_clocks(int server)
{
    struct reading reading;
    clockid_t clock;
    char path[64], text[1024];

    reading.wall = clock_ns(CLOCK_MONOTONIC);
    if (clock_getcpuclockid(server, &clock) != 0)
        fail("the server (process %d) is gone", server);
    reading.server_cpu = clock_ns(clock);
    reading.client_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    reading.server_wait = run_delay(server);
    reading.client_wait = run_delay(getpid());
    snprintf(path, sizeof path, "/proc/%d/stat", server);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(text, sizeof text, file))
        fail("cannot read %s", path);
    fclose(file);
    /* The name may hold spaces: fields are counted from its closing parenthesis. */
    if (sscanf(strrchr(text, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld",
               &reading.server_user, &reading.server_system) != 2)
        fail("cannot parse %s", path);
    return reading;
}

static void send_message(int epoll, struct connection *connection)
{
    ssize_t sent = write(connection->fd, message + connection->sent, size - connection->sent);
    if (sent < 0 && errno != EAGAIN)
        fail("the server broke a connection (write)");
    if (sent > 0)
        connection->sent += (size_t)sent;
    watch(epoll, EPOLL_CTL_MOD, connection->fd,
          connection->sent < size ? EPOLLIN | EPOLLOUT : EPOLLIN, connection);
}

/* True when the whole echo is in. */
static int receive_reply(struct connection *connection)
{
    ssize_t got = read(connection->fd, reply, size - connection->received);
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0)
        fail("the server broke a connection (read)");
    if (memcmp(reply, message + connection->received, (size_t)got) != 0) {
        errno = 0;
        fail("the server sent other bytes than it was sent");
    }
    connection->received += (size_t)got;
    return connection->received == size;
}

static void serve_event(int epoll, struct epoll_event *event)
{
    struct connection *connection = event->data.ptr;
    if (event->events & EPOLLOUT)
        send_message(epoll, connection);
    if (!(event->events & (EPOLLIN | EPOLLERR | EPOLLHUP)) || !receive_reply(connection))
        return;
    echoes++;
    connection->received = 0;
    /* The usual case, one write and no change of the watch, is the client's whole cost. */
    ssize_t sent = write(connection->fd, message, size);
    connection->sent = sent > 0 ? (size_t)sent : 0;
    if (connection->sent < size)
        send_message(epoll, connection);
}

static void run_until(int epoll, int64_t deadline)
{
    static struct epoll_event events[BATCH];
    do {
        int count = epoll_wait(epoll, events, BATCH, 5000);
        if (count == 0) {
            errno = 0;
            fail("no reply from the server for 5 seconds");
        }
        if (count < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < count; i++)
            serve_event(epoll, &events[i]);
    } while (clock_ns(CLOCK_MONOTONIC) < deadline);
}

int main(int argc, char **argv)
{
    const char *connect_to = option(argc, argv, "--connect", NULL);
    struct address address = parse_address(connect_to);
    int connections = atoi(option(argc, argv, "--connections", "64"));
    double warmup = atof(option(argc, argv, "--warmup", "0.5"));
    double seconds = atof(option(argc, argv, "--seconds", "1.5"));
    int server = atoi(option(argc, argv, "--server-pid", NULL));

    size = (size_t)atol(option(argc, argv, "--size", "1024"));
    message = malloc(size);
    reply = malloc(size);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    if (!message || !reply || !all)
        fail("malloc");
    for (size_t i = 0; i < size; i++)
        message[i] = (char)(i * 131 + (i >> 8));

    pin_to_core(atoi(option(argc, argv, "--core", "-1")));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        fail("epoll_create1");
    for (int i = 0; i < connections; i++) {
        all[i].fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (all[i].fd < 0 || connect(all[i].fd, &address.any, address.length) < 0)
            fail("cannot connect to %s", connect_to);
        set_nodelay(all[i].fd, &address);
        watch(epoll, EPOLL_CTL_ADD, all[i].fd, EPOLLIN, &all[i]);
        if (fcntl(all[i].fd, F_SETFL, O_NONBLOCK) < 0)
            fail("fcntl");
    }
    for (int i = 0; i < connections; i++)
        send_message(epoll, &all[i]);

    run_until(epoll, clock_ns(CLOCK_MONOTONIC) + (int64_t)(warmup * 1e9));
    struct reading begin = read_clocks(server);
    echoes = 0;
    run_until(epoll, begin.wall + (int64_t)(seconds * 1e9));
    long counted = echoes;
    struct reading end = read_clocks(server);

    printf("{\"echoes\": %ld, \"wall_ns\": %lld, \"server_cpu_ns\": %lld, "
           "\"server_wait_ns\": %lld, \"client_cpu_ns\": %lld, \"client_wait_ns\": %lld, "
           "\"server_user_ticks\": %ld, \"server_system_ticks\": %ld}\n",
           counted, (long long)(end.wall - begin.wall),
           (long long)(end.server_cpu - begin.server_cpu),
           (long long)(end.server_wait - begin.server_wait),
           (long long)(end.client_cpu - begin.client_cpu),
           (long long)(end.client_wait - begin.client_wait),
           end.server_user - begin.server_user, end.server_system - begin.server_system);
    return 0;
}
