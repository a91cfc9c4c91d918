/* The memory rows' client: opens many connections and holds them idle.
 *
 *     load_hold --connect tcp:PORT --connections 9000 --echo 0
 *
 * Prints "held N" when all are open (and, with --echo 1, each got one 1 KiB message back), closes
 * all and ends when its standard input ends.
 */
#include "common.h"

int main(int argc, char **argv)
{
    const char *connect_to = option(argc, argv, "--connect", NULL);
    struct address address = parse_address(connect_to);
    int connections = atoi(option(argc, argv, "--connections", "9000"));
    int echo = atoi(option(argc, argv, "--echo", "0"));
    char message[1024], byte;

    memset(message, 'x', sizeof message);
    for (int i = 0; i < connections; i++) {
        int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            fail("cannot open socket %d of %d (raise the descriptor limit: ulimit -n)", i,
                 connections);
        if (connect(fd, &address.any, address.length) < 0)
            fail("cannot connect to %s", connect_to);
        if (!echo)
            continue;
        if (write(fd, message, sizeof message) != sizeof message ||
            recv(fd, message, sizeof message, MSG_WAITALL) != sizeof message)
            fail("the server broke connection %d", i);
    }
    printf("held %d\n", connections);
    fflush(stdout);
    return read(0, &byte, 1) < 0;
}
