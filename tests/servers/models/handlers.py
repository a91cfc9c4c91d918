"""The handlers that the tests of the models serve. They run in the server, not in the test."""

import asyncio
import contextvars
import os
import signal
import time

from neverblock.errors import ConnectionLostError

#: Bytes that are sent at once by those who send much.
PIECE = 65536


async def echo(stream):
    async for chunk in stream:
        await stream.send(chunk)


async def whole(stream):
    """Answers with all that came, once the client has ended its half."""
    data = b""
    async for chunk in stream:
        data += chunk
    await stream.send(data)


async def closing(stream):
    await stream.send(b"bye")
    await stream.send_eof()
    await stream.send(await stream.receive())  # Refused: that half is closed.


async def failing(stream):
    word = await stream.receive()
    if word == b"fail":
        raise LookupError("no such word")
    await stream.send(word)


async def lines(stream):
    while True:
        await stream.send(await stream.receive_until(b"\n"))


async def sized(stream):
    size = int.from_bytes(await stream.receive_exactly(4), "big")
    await stream.send(b"?")
    await stream.receive_exactly(size)
    await stream.send(size.to_bytes(4, "big"))


async def slow(stream):
    word = await stream.receive()
    await stream.send(b"wait")
    time.sleep(0.3)
    await stream.send(word)


async def deaf(stream):
    """Waits for the rest of a message that began, drain or not."""
    await stream.receive_exactly(1)
    await stream.send(b"hello")
    await stream.receive_exactly(5)


async def stubborn(stream):
    """Goes on sending, whether anybody takes it or not."""
    await stream.receive_exactly(1)
    while True:
        await stream.send(bytes(PIECE))


async def generous(stream):
    """Sends as many bytes as it is asked for, in whole pieces, until the client leaves."""
    while True:
        size = int(await stream.receive_until(b"\n"))
        for _ in range(0, size, PIECE):
            await stream.send(bytes(PIECE))


async def closed(stream):
    await stream.send(b"bye")
    await stream.aclose()
    await stream.aclose()
    try:
        await stream.receive()
    except RuntimeError as error:
        print(error, flush=True)


async def told(stream):
    await stream.send(repr(tuple(stream.info[:-1])).encode())


async def anything(stream):
    """Every way a handler can end, by the first word of the client."""
    word = await stream.receive_until(b"\n")
    if word == b"fail\n":
        raise LookupError("no such word")
    if word == b"close\n":
        await stream.aclose()
        return
    if word == b"flood\n":
        try:
            while True:
                await stream.send(bytes(PIECE))
        except ConnectionLostError:
            return
    await stream.send(word)
    async for chunk in stream:
        await stream.send(chunk)


count = 0


async def counting(stream):
    global count
    count += 1
    await stream.send(b"%d" % count)


visits = contextvars.ContextVar("visits", default=0)


async def context(stream):
    visits.set(visits.get() + 1)
    await stream.send(b"%d" % visits.get())


async def pid(stream):
    await stream.send(b"%d\n" % os.getpid())
    await stream.receive()


async def crash(stream):
    if await stream.receive() == b"crash":
        # A sanitizer has a handler of its own, which would print and exit.
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    await stream.send(b"alive")


async def leaving(stream):
    """Ends its process, as C code may."""
    await stream.receive()
    os._exit(3)


async def printing(stream):
    print("served", await stream.receive())
    await stream.aclose()


def plain(stream):
    for chunk in stream:
        stream.send(chunk)


def several(stream):
    head = stream.receive_exactly(2)
    line = stream.receive_until(b";")
    stream.send(line + head + stream.receive(1))
    stream.send_eof()
    stream.close()


async def needing(stream):
    await globals()[(await stream.receive()).decode()]()


async def sleeping():
    await asyncio.sleep(1)


async def yielding():
    await asyncio.sleep(0)


async def waiting():
    await asyncio.Event().wait()


async def timing():
    async with asyncio.timeout(1):
        pass


async def grouping():
    async with asyncio.TaskGroup():
        pass


async def asking():
    asyncio.get_running_loop()


async def future():
    loop = asyncio.new_event_loop()
    try:
        await loop.create_future()
    finally:
        loop.close()


async def own_mistake(stream):
    await stream.receive()
    try:
        asyncio.Lock().release()
    except RuntimeError:
        raise RuntimeError("my own") from None


async def misuse(stream):
    await stream.receive()
    asyncio.Lock().release()


async def caught(stream):
    try:
        await asyncio.sleep(0)
    except RuntimeError as error:
        await stream.send(type(error).__name__.encode())


def running_own_loop(stream):
    stream.send(asyncio.run(asyncio.sleep(0, b"done")))


async def http(stream):
    """As much of HTTP/1.1 (RFC 9112) as a client needs that behaves: sends the body back."""
    while True:
        head = (await stream.receive_until(b"\r\n\r\n")).decode("ascii").lower().splitlines()
        method, path, _ = head[0].split()
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        if fields.get("expect") == "100-continue":
            await stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await stream.receive_exactly(int(fields.get("content-length", 0)))
        answer = body or f"{method} {path}\n".encode()
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
        await stream.send(answer)
