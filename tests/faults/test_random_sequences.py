"""Ten thousand connections that end in every way, at any moment, leave nothing behind."""

import asyncio
import random
import socket
import struct

import pytest

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset


def one_client(address, dice):
    """Connect, then a few of: send, receive, half-close; then close or reset."""
    with socket.create_connection(address, timeout=30) as client:
        sent = received = 0
        half_closed = False
        for _ in range(dice.randrange(4)):
            what = dice.choice(["send", "receive", "half-close"])
            if what == "send" and not half_closed:
                size = dice.choice([1, 100, 5000, 200_000])
                send_all(client, bytes(size))
                sent += size
            elif what == "half-close" and not half_closed:
                client.shutdown(socket.SHUT_WR)
                half_closed = True
            elif what == "receive" and received < sent:
                received += len(client.recv(65536))
        if half_closed and dice.random() < 0.3:
            while data := client.recv(65536):
                received += len(data)
            assert received == sent  # half-closed, it still gets all of its echo
        elif dice.random() < 0.4:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def send_all(client, data):
    # The echo may fill both directions: what does not fit in the buffers is not insisted on.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    client.sendall(data)


class Echo(asyncio.Protocol):
    open = 0
    ended = 0

    def connection_made(self, transport):
        self.transport = transport
        Echo.open += 1

    def data_received(self, data):
        self.transport.write(data)

    def eof_received(self):
        return False  # close when all of the echo is sent

    def connection_lost(self, error):
        Echo.open -= 1
        Echo.ended += 1


async def echo_by_streams(reader, writer):
    Echo.open += 1
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
        Echo.open -= 1
        Echo.ended += 1


@pytest.mark.heavy
@pytest.mark.parametrize("by", ["protocol", "streams"])
def test_ten_thousand_random_ends(run, descriptors, by):
    cycles, threads = 10_000, 4
    Echo.open = Echo.ended = 0

    async def main():
        loop = asyncio.get_running_loop()
        if by == "protocol":
            server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)
        else:
            server = await asyncio.start_server(echo_by_streams, "127.0.0.1", 0, backlog=1024)
        address = server.sockets[0].getsockname()
        before, tasks = descriptors(), len(asyncio.all_tasks())

        def clients(seed):
            dice = random.Random(seed)
            for _ in range(cycles // threads):
                one_client(address, dice)

        await asyncio.gather(*(asyncio.to_thread(clients, seed) for seed in range(threads)))
        while Echo.ended < cycles or Echo.open or len(asyncio.all_tasks()) > tasks:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        assert set(descriptors()) <= set(before)
        server.close()
        await server.wait_closed()

    run(main, timeout=100)
