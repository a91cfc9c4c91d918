"""Clients by the thousand, in the process of the test."""

import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.servers.serving import PATIENCE, Process, address_of, exactly

#: Descriptors a process needs beside those of the crowd.
SPARE = 200
#: Clients per source address: each address has its own ports, about 28,000 of them (ip(7)).
PER_ADDRESS = 10_000
#: Clients that ask together.
BATCH = 200
IP_BIND_ADDRESS_NO_PORT = 24  # Of Linux; the socket module has it from Python 3.12 on.


@contextmanager
def descriptors_for(clients: int, say: Callable[[str], None]) -> Iterator[int]:
    """Allow this process, and those it starts, so many; how many clients that is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    most = clients if hard == infinite else min(clients, hard - SPARE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (soft if soft == infinite else max(soft, most + SPARE), hard)
    )
    try:
        if most < clients:
            say(f"{most:,} clients instead of {clients:,}: the descriptor limit is {hard:,}")
        yield most
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def crowd(server: Process, clients: int) -> Iterator[list[socket.socket]]:
    """So many that are connected; each has sent nothing yet."""
    family, address = address_of(server.url)
    connected: list[socket.socket] = []
    try:
        for number in range(clients):
            client = socket.socket(family, socket.SOCK_STREAM)
            connected.append(client)
            client.settimeout(PATIENCE)
            if source := number // PER_ADDRESS:
                # The port is chosen when connecting: it may be one that another address uses.
                client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                client.bind((f"127.0.0.{source + 1}", 0))
            client.connect(address)
        yield connected
    finally:
        for client in connected:
            client.close()


def ask_each(clients: Sequence[socket.socket], word: bytes) -> None:
    """Each asks with a line of its own, and is answered with it."""
    for first in range(0, len(clients), BATCH):
        asking = list(enumerate(clients[first : first + BATCH], first))
        for number, client in asking:
            client.sendall(b"%b %d\n" % (word, number))
        for number, client in asking:
            expected = b"%b %d\n" % (word, number)
            assert exactly(client, len(expected)) == expected
