"""SET and GET of Redis, and as much work for each as keeps the server the bottleneck.

See bench/load_references.py: a tool that has no time to spare measures itself.
"""

from hashlib import sha256

from examples.resp import Parser, encode

WORK = bytes(16 * 1024)

values = {}


def reply(command):
    sha256(WORK).digest()
    if command[0].upper() == b"SET":
        values[command[1]] = command[2]
        return encode("OK")
    return encode(values.get(command[1]))


async def handle(stream):
    parser = Parser()
    async for chunk in stream:
        await stream.send(b"".join([reply(command) for command in parser.feed(chunk)]))
