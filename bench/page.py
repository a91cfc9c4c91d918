"""A page for tools that speak HTTP: as little of a server as they put up with.

It works for each answer, so that the tools have time to spare, and measure the server.
"""

from hashlib import sha256

BODY = b"x" * 1024
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: text/plain\r\nETag: %b\r\n\r\n"
WORK = bytes(16 * 1024)


def response():
    return HEAD % (len(BODY), sha256(WORK).hexdigest().encode()) + BODY


async def handle(stream):
    head = b""
    async for chunk in stream:
        head += chunk
        requests = head.count(b"\r\n\r\n")
        if requests:
            await stream.send(b"".join([response() for _ in range(requests)]))
            head = b""
