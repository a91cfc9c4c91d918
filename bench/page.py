"""A page for tools that speak HTTP: as little of a server as they put up with."""

BODY = b"x" * 1024
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: text/plain\r\n\r\n" % len(BODY)


async def handle(stream):
    head = b""
    async for chunk in stream:
        head += chunk
        requests = head.count(b"\r\n\r\n")
        if requests:
            await stream.send((RESPONSE + BODY) * requests)
            head = b""
