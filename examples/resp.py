"""The protocol of Redis, as a server speaks it: commands out of bytes, replies into bytes.

RESP2 and RESP3 differ in the replies only (https://redis.io/docs/latest/develop/reference/protocol-spec).
Nothing here reads or writes a socket, so any server can use it and any test can feed it.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

#: bytes: a string; str: a status such as OK; None: no such value.
Reply: TypeAlias = "bytes | str | int | Sequence[Reply] | Mapping[bytes, Reply] | None"

#: A line without its end, and arguments of one command: as Redis limits them.
MAX_LINE = 64 * 1024
MAX_ARGUMENTS = 1024 * 1024
#: Bytes that one command may take in memory. Redis allows 512 MB for each of its arguments.
MAX_COMMAND = 64 * 1024 * 1024
#: What an argument costs beside its own bytes.
ARGUMENT_OVERHEAD = 48

ASTERISK, DOLLAR = b"*$"


class ProtocolError(Exception):
    """The bytes make no sense; where the next command begins is unknown, so hang up."""


class Parser:
    """Commands from a stream of bytes, however it is cut into pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # Not yet parsed.
        self._held = 0  # Their length.
        self._needed = 1  # How many bytes there must be before parsing gets any further.
        self._arguments: list[bytes] = []  # Of the command at hand,
        self._missing = 0  # how many it still lacks,
        self._size = 0  # and what it takes so far.

    def feed(self, data: bytes) -> Iterator[list[bytes]]:
        """The commands that ``data`` completes, each a list of at least one argument.

        Go through all of them before feeding more. Raises ProtocolError.
        """
        self._pieces.append(data)
        self._held += len(data)
        if self._held < self._needed:
            return
        data = b"".join(self._pieces)
        at, end = 0, len(data)
        self._needed = 1
        while at < end:
            if self._missing:
                stop = self._argument(data, at)
            elif data[at] == ASTERISK:
                stop = self._count(data, at)
            else:
                newline = line_end(data, at, b"\n", "too big inline request")
                stop = newline + 1
                if stop and (words := split(data[at:newline])):
                    yield words
            if not stop:
                break
            at = stop
            if self._arguments and not self._missing:
                arguments, self._arguments = self._arguments, []
                yield arguments
        self._pieces = [data[at:]] if at < end else []
        self._held = end - at
        self._needed = max(self._needed, self._held + 1)

    def _count(self, data: bytes, at: int) -> int:
        """Begin a command, ``*3\\r\\n``; where it goes on, or 0: not all there yet."""
        stop = line_end(data, at, b"\r\n", "too big mbulk count string")
        if stop < 0:
            return 0
        count = decimal(data[at + 1 : stop].removeprefix(b"-"))
        if count is None or count > MAX_ARGUMENTS:
            raise ProtocolError("invalid multibulk length")
        if data[at + 1] != ord("-"):
            self._missing = count
        self._size = 0
        return stop + 2

    def _argument(self, data: bytes, at: int) -> int:
        """Take an argument, ``$5\\r\\nhello\\r\\n``; where the next is, or 0: not all there yet."""
        if data[at] != DOLLAR:
            raise ProtocolError(f"expected '$', got {chr(data[at])!r}")
        begin = line_end(data, at, b"\r\n", "too big bulk count string") + 2
        if begin < 2:
            return 0
        length = decimal(data[at + 1 : begin - 2])
        if length is None or self._size + length > MAX_COMMAND:
            raise ProtocolError("invalid bulk length")
        stop = begin + length
        if stop + 2 > len(data):
            self._needed = stop + 2 - at
            return 0
        if data[stop : stop + 2] != b"\r\n":
            raise ProtocolError("expected CRLF after a bulk string")
        self._arguments.append(data[begin:stop])
        self._missing -= 1
        self._size += length + ARGUMENT_OVERHEAD
        return stop + 2


def line_end(data: bytes, at: int, mark: bytes, complaint: str) -> int:
    """Where the line at ``at`` ends; -1: not there yet."""
    stop = data.find(mark, at, at + MAX_LINE)
    if stop < 0 and len(data) - at >= MAX_LINE:
        raise ProtocolError(complaint)
    return stop


def decimal(digits: bytes) -> int | None:
    """A number of plain digits, as the protocol counts; None: it is none."""
    return int(digits) if len(digits) < 20 and digits.isdigit() else None


def split(line: bytes) -> list[bytes]:
    """The words of a command typed by hand; quotes keep several together."""
    if not any(quote in line for quote in b"\"'\\"):
        return line.split()
    try:
        # latin-1 maps every byte to a character and back.
        return [word.encode("latin-1") for word in shlex.split(line.decode("latin-1"))]
    except ValueError:
        raise ProtocolError("unbalanced quotes in request") from None


def encode(reply: Reply, protocol: int = 2) -> bytes:
    """A reply on the wire, for a client that asked for RESP2 or RESP3."""
    match reply:
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
        case str():
            return b"+%b\r\n" % reply.encode()
        case None:
            return b"_\r\n" if protocol >= 3 else b"$-1\r\n"
        case Mapping():
            parts = [encode(part, protocol) for pair in reply.items() for part in pair]
            head = b"%%%d\r\n" % len(reply) if protocol >= 3 else b"*%d\r\n" % len(parts)
            return head + b"".join(parts)
        case _:
            return b"*%d\r\n%b" % (len(reply), b"".join([encode(part, protocol) for part in reply]))


def encode_error(message: str) -> bytes:
    """An error; the line breaks in it would end it early."""
    return b"-%b\r\n" % " ".join(message.splitlines()).encode("utf-8", "replace")
