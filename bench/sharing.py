"""Ways to share a port among processes, in bare system calls: who gets the connections, how fast.

    python -m bench.sharing [--runs 5] [--connections 2000] [--workers 4]

reuseport: a listening socket for each worker, of one port; the kernel deals by a hash.
shared: one listening socket, in the epoll set of each worker. exclusive: with EPOLLEXCLUSIVE.
handed: the parent accepts, and hands the connection to the worker that has the fewest.

A client learns from the first byte which worker has it. Printed for each way: the largest share of
a worker by the mean, at the median and at worst over the runs, for connections made fast, slowly,
and after half of them were closed and made again; connections taken from a full queue in a second;
clients lost with a worker that is killed before it took them.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

AT_ONCE = 64
#: What a worker says: connections that it took, and that ended.
REPORT = struct.Struct("II")
SPACE = socket.CMSG_LEN(4)
WAYS = ("reuseport", "shared", "exclusive", "handed")


class Served:
    """Workers on a port or a path; ``with`` ends them."""

    def __init__(self, way: str, family: int, workers: int, place: str) -> None:
        self.family = family
        self.pids: list[int] = []
        sockets = [listen(family, place, reuse=way == "reuseport")]
        self.address = sockets[0].getsockname()
        if way == "reuseport":
            port = self.address[1]
            sockets += [listen(family, place, True, port) for _ in range(workers - 1)]
        if way == "handed":
            self.pids.append(forked(lambda: hand_out(sockets[0], workers)))
        for number in range(workers if way != "handed" else 0):
            mine = sockets[number % len(sockets)]
            flags = select.EPOLLEXCLUSIVE if way == "exclusive" else 0
            self.pids.append(forked(lambda: accept_all(mine, sockets, flags, number)))  # noqa: B023
        for sock in sockets:
            sock.close()

    def connect(self) -> socket.socket:
        client = socket.socket(self.family, socket.SOCK_STREAM)
        client.settimeout(30)
        client.connect(self.address)
        return client

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGTERM)
        for pid in self.pids:
            os.waitpid(pid, 0)


def listen(family: int, place: str, reuse: bool, port: int = 0) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    if reuse:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port) if family == socket.AF_INET else place)
    sock.listen(4096)
    sock.setblocking(False)
    return sock


def forked(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def greet(sock: socket.socket, number: int) -> None:
    sock.send(bytes([number]))


def accept_all(mine: socket.socket, others: list[socket.socket], flags: int, number: int) -> None:
    """A worker that accepts, and keeps each connection until its client leaves."""
    for other in others:
        if other is not mine:
            other.close()
    epoll = select.epoll()
    epoll.register(mine, select.EPOLLIN | flags)
    held: dict[int, socket.socket] = {}
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor != mine.fileno():
                held.pop(descriptor).close()
                continue
            for _ in range(AT_ONCE):
                try:
                    sock, _ = mine.accept()
                except BlockingIOError:
                    break
                held[sock.fileno()] = sock
                epoll.register(sock, select.EPOLLIN)
                greet(sock, number)


def hand_out(listening: socket.socket, workers: int) -> None:
    """A parent that accepts. What a worker did not say it took goes to another, should it die."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(workers)]
    for number in range(workers):
        everything = [listening, *(end for pair in pairs for end in pair)]
        forked(lambda: take(pairs[number][1], everything, number))  # noqa: B023
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    channels = {ours.fileno(): ours for ours, _ in pairs}
    for _, theirs in pairs:
        theirs.close()
    load = dict.fromkeys(channels, 0)
    untaken: dict[int, list[socket.socket]] = {descriptor: [] for descriptor in channels}
    epoll = select.epoll()
    for descriptor in (*channels, listening.fileno()):
        epoll.register(descriptor, select.EPOLLIN)

    def give(sock: socket.socket) -> None:
        to = min(load, key=load.__getitem__)
        load[to] += 1
        untaken[to].append(sock)
        socket.send_fds(channels[to], [b"x"], [sock.fileno()])

    def heed(descriptor: int) -> bool:
        """Whether the worker lives."""
        while True:
            try:
                report = channels[descriptor].recv(REPORT.size, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                continue
            if not report:
                return False
            taken, ended = REPORT.unpack(report)
            for sock in untaken[descriptor][:taken]:
                sock.close()
            del untaken[descriptor][:taken]
            load[descriptor] -= ended

    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == listening.fileno():
                for _ in range(AT_ONCE):
                    try:
                        give(listening.accept()[0])
                    except BlockingIOError:
                        break
            elif descriptor in load and not heed(descriptor):
                epoll.unregister(descriptor)
                del load[descriptor]
                for sock in untaken.pop(descriptor):
                    give(sock)


def take(channel: socket.socket, others: list[socket.socket], number: int) -> None:
    """A worker that is handed its connections."""
    for other in others:
        if other is not channel:
            other.close()
    epoll = select.epoll()
    epoll.register(channel, select.EPOLLIN)
    held: dict[int, socket.socket] = {}
    while True:
        taken = ended = 0
        fresh: list[socket.socket] = []
        for descriptor, _ in epoll.poll():
            if descriptor != channel.fileno():
                epoll.unregister(descriptor)  # The parent may not have closed it yet.
                held.pop(descriptor).close()
                ended += 1
                continue
            for _ in range(AT_ONCE):
                try:
                    # Not recv_fds(), which takes flags and leaves them out.
                    _, ancillary, _, _ = channel.recvmsg(1, SPACE, socket.MSG_DONTWAIT)
                    [[_, _, received]] = ancillary
                except BlockingIOError:
                    break
                except (ValueError, ConnectionResetError):  # The parent is gone.
                    os._exit(0)
                fresh.append(socket.socket(fileno=int.from_bytes(received, sys.byteorder)))
                taken += 1
        try:
            channel.send(REPORT.pack(taken, ended))
        except BrokenPipeError:
            os._exit(0)
        for sock in fresh:
            held[sock.fileno()] = sock
            epoll.register(sock, select.EPOLLIN)
            greet(sock, number)


def share(clients: list[socket.socket], workers: int) -> float:
    counts = Counter(owner(client) for client in clients)
    return max(counts.values()) / (len(clients) / workers)


def owner(client: socket.socket) -> int:
    # Looked at, not taken: it is asked again.
    return client.recv(1, socket.MSG_PEEK)[0]


def balance(served: Served, connections: int, workers: int, pause: float, churn: bool) -> float:
    clients = []
    try:
        for _ in range(connections):
            clients.append(served.connect())
            if pause:
                time.sleep(pause)
        if churn:
            share(clients, workers)
            random.shuffle(clients)
            for client in clients[: connections // 2]:
                client.close()
            clients[: connections // 2] = [served.connect() for _ in range(connections // 2)]
        return share(clients, workers)
    finally:
        for client in clients:
            client.close()


def rate(served: Served, connections: int) -> float:
    """Connections a second that are taken from the queue."""
    for pid in served.pids:
        os.kill(pid, signal.SIGSTOP)
    clients = [served.connect() for _ in range(connections)]
    began = time.perf_counter()
    for pid in served.pids:
        os.kill(pid, signal.SIGCONT)
    for client in clients:
        owner(client)
    took = time.perf_counter() - began
    for client in clients:
        client.close()
    return connections / took


def lost(served: Served, way: str) -> int:
    """Of 200 clients, those that are not served because a worker was killed."""
    victim = served.pids[0]
    with served.connect() as client:
        owner(client)  # All have begun.
    if way == "handed":
        [first, *_] = Path(f"/proc/{victim}/task/{victim}/children").read_text().split()
        victim = int(first)
    os.kill(victim, signal.SIGSTOP)
    clients = [served.connect() for _ in range(200)]
    time.sleep(0.2)  # The others take what is theirs.
    os.kill(victim, signal.SIGKILL)
    count = 0
    for client in clients:
        try:
            count += not client.recv(1)
        except OSError:
            count += 1
        client.close()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=4)
    asked = parser.parse_args()
    print(f"{'':18}{'fast':>14}{'slow':>14}{'churned':>14}{'taken/s':>10}{'lost of 200':>13}")
    for family in (socket.AF_INET, socket.AF_UNIX):
        for way in WAYS:
            if family == socket.AF_UNIX and way == "reuseport":
                continue  # A path is bound once.
            print(row(way, family, asked.runs, asked.connections, asked.workers), flush=True)


def row(way: str, family: int, runs: int, connections: int, workers: int) -> str:
    shares: list[list[float]] = [[], [], []]
    rates: list[float] = []
    losses: list[int] = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as directory:
            for index, (pause, churn) in enumerate(((0, False), (0.0005, False), (0, True))):
                with Served(way, family, workers, f"{directory}/{index}") as served:
                    shares[index].append(balance(served, connections, workers, pause, churn))
            with Served(way, family, workers, f"{directory}/rate") as served:
                rates.append(rate(served, min(connections, 1000)))
            with Served(way, family, workers, f"{directory}/lost") as served:
                losses.append(lost(served, way))
    scheme = "tcp" if family == socket.AF_INET else "unix"
    cells = "".join(f"{median(each):8.2f} {max(each):5.2f}" for each in shares)
    return f"{scheme:5}{way:13}{cells}{median(rates):10.0f}{max(losses):13}"


if __name__ == "__main__":
    main()
