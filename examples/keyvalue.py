"""A key-value server that speaks the protocol of Redis, so any Redis client can use it.

    neverblock serve examples/keyvalue.py:handle --bind tcp://127.0.0.1:6380
    redis-cli -p 6380 set greeting hello

It runs under every server model (--model). Values are strings, and live in the memory of a process:
they are gone when it ends. Under the models loop, iterative, thread and pool that is one memory for
all clients, and a lock keeps a command from seeing another one half done. Under the process model
each client has a process, and so a store, of its own: it starts empty, no other client sees it, and
it is gone with the connection. That is the price of that model.
"""

import fnmatch
import heapq
import itertools
import os
import re
import threading
import time
from collections.abc import Callable

from resp import Parser, ProtocolError, Reply, encode, encode_error

from neverblock.servers import Stream

#: Bytes of replies that are gathered before they are sent, however many commands came together.
BATCH = 256 * 1024
MAX_VALUE = 512 * 1024 * 1024
REDIS_VERSION = "7.2.0"  # Whose replies these are; clients ask.

Command = Callable[["Session", list[bytes]], Reply]


class CommandError(Exception):
    """A command cannot be done; the message is the reply."""


class Store:
    """Keys and values, and when each key expires, in milliseconds of the monotonic clock."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.deadlines: dict[bytes, int] = {}
        self._queue: list[tuple[int, bytes]] = []

    def drop_expired(self) -> None:
        """Forget the keys whose time has come; called before each batch of commands."""
        if not self._queue:
            return
        now = milliseconds()
        while self._queue and self._queue[0][0] <= now:
            deadline, key = heapq.heappop(self._queue)
            # The key may have got another deadline since, or none.
            if self.deadlines.get(key) == deadline:
                self.delete(key)

    def set(self, key: bytes, value: bytes) -> None:
        if len(value) > MAX_VALUE:
            raise CommandError("ERR string exceeds maximum allowed size (512MB)")
        self.values[key] = value

    def delete(self, key: bytes) -> bool:
        self.deadlines.pop(key, None)
        return self.values.pop(key, None) is not None

    def expire(self, key: bytes, after: int) -> None:
        """Let a key expire ``after`` milliseconds from now."""
        deadline = milliseconds() + after
        self.deadlines[key] = deadline
        heapq.heappush(self._queue, (deadline, key))
        if len(self._queue) > 2 * len(self.deadlines) + 64:
            # Mostly deadlines that no longer hold.
            self._queue = [(deadline, key) for key, deadline in self.deadlines.items()]
            heapq.heapify(self._queue)

    def clear(self) -> None:
        self.values.clear()
        self.deadlines.clear()
        self._queue.clear()


class Session:
    """What the server knows of one client."""

    numbers = itertools.count(1)
    open = 0

    def __init__(self) -> None:
        self.id = next(self.numbers)
        self.name = b""
        self.protocol = 2
        self.over = False

    def reply_to(self, arguments: list[bytes]) -> bytes:
        """Do a command; the reply for the wire."""
        name = arguments[0].upper()
        command, least, most = COMMANDS.get(name, UNKNOWN)
        try:
            if not least <= len(arguments) - 1 <= most:
                raise CommandError(
                    f"ERR wrong number of arguments for '{text(name).lower()}' command"
                )
            return encode(command(self, arguments), self.protocol)
        except CommandError as error:
            return encode_error(str(error))


async def handle(stream: Stream) -> None:
    """Serve one client, to its end."""
    session = Session()
    parser = Parser()
    with LOCK:
        Session.open += 1
    try:
        async for chunk in stream:
            with LOCK:
                STORE.drop_expired()
            replies: list[bytes] = []
            size = 0
            try:
                for arguments in parser.feed(chunk):
                    with LOCK:
                        reply = session.reply_to(arguments)
                    replies.append(reply)
                    size += len(reply)
                    if session.over:
                        break
                    if size >= BATCH:
                        # Not one byte more in memory for a client that asks faster than it reads.
                        await stream.send(b"".join(replies))
                        replies, size = [], 0
            except ProtocolError as error:
                replies.append(encode_error(f"ERR Protocol error: {error}"))
                session.over = True
            if replies:
                await stream.send(b"".join(replies))
            if session.over:
                break
    finally:
        with LOCK:
            Session.open -= 1


STORE = Store()
#: Held for each command, never while waiting for a client: under the loop model it is always free.
LOCK = threading.Lock()
STARTED = time.monotonic()
#: Name -> what does it, and how many arguments it takes beside its name.
COMMANDS: dict[bytes, tuple[Command, int, float]] = {}


def command(name: str, least: int = 0, most: float | None = None) -> Callable[[Command], Command]:
    """Make a function the command ``name``, of ``least`` to ``most`` arguments (None: the same)."""

    def add(function: Command) -> Command:
        COMMANDS[name.encode()] = function, least, least if most is None else most
        return function

    return add


ANY = float("inf")

# Keys and values


@command("GET", 1)
def get(session: Session, arguments: list[bytes]) -> Reply:
    return STORE.values.get(arguments[1])


@command("SET", 2, ANY)
def set_(session: Session, arguments: list[bytes]) -> Reply:
    _, key, value, *rest = arguments
    options: set[bytes] = set()
    lifetime: bytes | None = None
    words = iter(rest)
    for word in words:
        option = word.upper()
        options.add(option)
        if option in (b"EX", b"PX"):
            lifetime = next(words, None)
            if lifetime is None:
                raise CommandError("ERR syntax error")
        elif option not in (b"NX", b"XX", b"GET", b"KEEPTTL"):
            raise CommandError("ERR syntax error")
    if len(options & {b"EX", b"PX", b"KEEPTTL"}) > 1 or {b"NX", b"XX"} <= options:
        raise CommandError("ERR syntax error")
    after = 0
    if lifetime is not None:
        after = duration(lifetime, 1000 if b"EX" in options else 1, "set")
    before = STORE.values.get(key)
    done = (b"XX" if before is None else b"NX") not in options
    if done:
        STORE.set(key, value)
        if after:
            STORE.expire(key, after)
        elif b"KEEPTTL" not in options:
            STORE.deadlines.pop(key, None)
    if b"GET" in options:
        return before
    return "OK" if done else None


@command("APPEND", 2)
def append(session: Session, arguments: list[bytes]) -> Reply:
    _, key, value = arguments
    STORE.set(key, STORE.values.get(key, b"") + value)
    return len(STORE.values[key])


@command("DEL", 1, ANY)
def delete(session: Session, arguments: list[bytes]) -> Reply:
    return sum(STORE.delete(key) for key in arguments[1:])


@command("EXISTS", 1, ANY)
def exists(session: Session, arguments: list[bytes]) -> Reply:
    return sum(key in STORE.values for key in arguments[1:])


@command("MGET", 1, ANY)
def mget(session: Session, arguments: list[bytes]) -> Reply:
    return [STORE.values.get(key) for key in arguments[1:]]


@command("MSET", 2, ANY)
def mset(session: Session, arguments: list[bytes]) -> Reply:
    keys, values = arguments[1::2], arguments[2::2]
    if len(keys) != len(values):
        raise CommandError("ERR wrong number of arguments for 'mset' command")
    for key, value in zip(keys, values, strict=True):
        STORE.set(key, value)
        STORE.deadlines.pop(key, None)
    return "OK"


@command("INCR", 1)
def incr(session: Session, arguments: list[bytes]) -> Reply:
    return add(arguments[1], 1)


@command("DECR", 1)
def decr(session: Session, arguments: list[bytes]) -> Reply:
    return add(arguments[1], -1)


@command("INCRBY", 2)
def incrby(session: Session, arguments: list[bytes]) -> Reply:
    return add(arguments[1], integer(arguments[2]))


@command("DECRBY", 2)
def decrby(session: Session, arguments: list[bytes]) -> Reply:
    return add(arguments[1], -integer(arguments[2]))


def add(key: bytes, amount: int) -> int:
    total = integer(STORE.values.get(key, b"0")) + amount
    if not is_64_bit(total):
        raise CommandError("ERR increment or decrement would overflow")
    STORE.set(key, b"%d" % total)
    return total


# Expiry


@command("EXPIRE", 2)
def expire(session: Session, arguments: list[bytes]) -> Reply:
    return expire_in(arguments[1], integer(arguments[2]) * 1000)


@command("PEXPIRE", 2)
def pexpire(session: Session, arguments: list[bytes]) -> Reply:
    return expire_in(arguments[1], integer(arguments[2]))


def expire_in(key: bytes, after: int) -> int:
    if not is_64_bit(after):
        raise CommandError("ERR invalid expire time in 'expire' command")
    if key not in STORE.values:
        return 0
    if after <= 0:
        STORE.delete(key)
    else:
        STORE.expire(key, after)
    return 1


@command("TTL", 1)
def ttl(session: Session, arguments: list[bytes]) -> Reply:
    left = milliseconds_left(arguments[1])
    return left if left < 0 else (left + 500) // 1000


@command("PTTL", 1)
def pttl(session: Session, arguments: list[bytes]) -> Reply:
    return milliseconds_left(arguments[1])


def milliseconds_left(key: bytes) -> int:
    """-2: no such key, -1: it does not expire."""
    if key not in STORE.values:
        return -2
    deadline = STORE.deadlines.get(key)
    return -1 if deadline is None else max(0, deadline - milliseconds())


@command("PERSIST", 1)
def persist(session: Session, arguments: list[bytes]) -> Reply:
    return int(STORE.deadlines.pop(arguments[1], None) is not None)


# The whole of it


@command("KEYS", 1)
def keys(session: Session, arguments: list[bytes]) -> Reply:
    matches = glob(arguments[1])
    return [key for key in STORE.values if matches(text(key))]


@command("DBSIZE")
def dbsize(session: Session, arguments: list[bytes]) -> Reply:
    return len(STORE.values)


@command("FLUSHALL", 0, 1)
@command("FLUSHDB", 0, 1)
def flush(session: Session, arguments: list[bytes]) -> Reply:
    STORE.clear()
    return "OK"


# The connection


@command("PING", 0, 1)
def ping(session: Session, arguments: list[bytes]) -> Reply:
    return arguments[1] if len(arguments) > 1 else "PONG"


@command("ECHO", 1)
def echo(session: Session, arguments: list[bytes]) -> Reply:
    return arguments[1]


@command("QUIT", 0, ANY)
def quit_(session: Session, arguments: list[bytes]) -> Reply:
    session.over = True
    return "OK"


@command("SELECT", 1)
def select(session: Session, arguments: list[bytes]) -> Reply:
    if integer(arguments[1]) != 0:
        raise CommandError("ERR DB index is out of range")
    return "OK"


@command("HELLO", 0, ANY)
def hello(session: Session, arguments: list[bytes]) -> Reply:
    words = iter(arguments[1:])
    protocol = next(words, b"%d" % session.protocol)
    name = session.name
    if protocol not in (b"2", b"3"):
        raise CommandError("NOPROTO unsupported protocol version")
    for word in words:
        if word.upper() == b"AUTH":
            raise CommandError("ERR this server has no users, so AUTH means nothing to it")
        if word.upper() != b"SETNAME" or not (name := next(words, b"")):
            raise CommandError(f"ERR Syntax error in HELLO option '{text(word)}'")
    session.protocol, session.name = int(protocol), name
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION.encode(),
        b"proto": session.protocol,
        b"id": session.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }


@command("CLIENT", 1, ANY)
def client(session: Session, arguments: list[bytes]) -> Reply:
    match [arguments[1].upper(), *arguments[2:]]:
        case [b"ID"]:
            return session.id
        case [b"GETNAME"]:
            return session.name
        case [b"SETNAME", name]:
            session.name = name
            return "OK"
        case [b"SETINFO", _, _]:
            return "OK"
    raise CommandError(
        f"ERR unknown subcommand or wrong arguments for 'client|{text(arguments[1])}'"
    )


# The server


@command("CONFIG", 1, ANY)
def config(session: Session, arguments: list[bytes]) -> Reply:
    if arguments[1].upper() != b"GET" or len(arguments) < 3:
        raise CommandError("ERR only CONFIG GET is here, with a pattern")
    patterns = [glob(pattern.lower()) for pattern in arguments[2:]]
    return {
        name: value
        for name, value in SETTINGS.items()
        if any(matches(text(name)) for matches in patterns)
    }


SETTINGS = {
    b"appendonly": b"no",
    b"databases": b"1",
    b"maxmemory": b"0",
    b"proto-max-bulk-len": b"%d" % MAX_VALUE,
    b"save": b"",
}


@command("COMMAND", 0, ANY)
def command_(session: Session, arguments: list[bytes]) -> Reply:
    match [word.upper() for word in arguments[1:]]:
        case []:
            return [described(name) for name in COMMANDS]
        case [b"COUNT"]:
            return len(COMMANDS)
        case [b"INFO", *names]:
            return [described(name) if name in COMMANDS else None for name in names]
        case [b"DOCS", *_]:
            return {}
    raise CommandError("ERR only COMMAND, COMMAND COUNT, COMMAND INFO and COMMAND DOCS are here")


def described(name: bytes) -> Reply:
    """Name, number of words (negative: at least), and what is not told: flags, keys, the rest."""
    _, least, most = COMMANDS[name]
    arity = least + 1 if least == most else -least - 1
    return [name.lower(), arity, [], 0, 0, 0, [], [], [], []]


@command("INFO", 0, ANY)
def info(session: Session, arguments: list[bytes]) -> Reply:
    sections: dict[str, dict[str, object]] = {
        "server": {
            "redis_version": REDIS_VERSION,
            "server_name": "neverblock-keyvalue",
            "redis_mode": "standalone",
            "process_id": os.getpid(),
            "uptime_in_seconds": int(time.monotonic() - STARTED),
        },
        "clients": {"connected_clients": Session.open},
        "persistence": {"loading": 0},
        "replication": {"role": "master"},
        "keyspace": {"db0": f"keys={len(STORE.values)},expires={len(STORE.deadlines)},avg_ttl=0"},
    }
    wanted = {text(word).lower() for word in arguments[1:]}
    if not wanted or wanted & {"all", "default", "everything"}:
        wanted = set(sections)
    return "\r\n".join(
        f"# {section.capitalize()}\r\n"
        + "".join(f"{name}:{value}\r\n" for name, value in facts.items())
        for section, facts in sections.items()
        if section in wanted
    ).encode()


def unknown(session: Session, arguments: list[bytes]) -> Reply:
    name, *rest = (text(word[:128]) for word in arguments)
    shown = " ".join(f"'{word}'" for word in rest[:8])
    raise CommandError(f"ERR unknown command '{name}', with args beginning with: {shown}")


UNKNOWN: tuple[Command, int, float] = unknown, 0, ANY


# Words


def milliseconds() -> int:
    return time.monotonic_ns() // 1_000_000


def text(word: bytes) -> str:
    """Every byte a character, so that any key can be shown and matched."""
    return word.decode("latin-1")


def integer(word: bytes) -> int:
    """A 64-bit number, written the one way Redis accepts."""
    try:
        number = int(word)
    except ValueError:
        number = None
    if number is None or not is_64_bit(number) or b"%d" % number != word:
        raise CommandError("ERR value is not an integer or out of range")
    return number


def is_64_bit(number: int) -> bool:
    return -(2**63) <= number < 2**63


def duration(word: bytes, unit: int, name: str) -> int:
    """A time to live, in milliseconds."""
    number = integer(word) * unit
    if number <= 0 or not is_64_bit(number):
        raise CommandError(f"ERR invalid expire time in '{name}' command")
    return number


def glob(pattern: bytes) -> Callable[[str], object]:
    """What matches a pattern of ``*``, ``?``, ``[a-z]`` and ``[^a-z]``."""
    return re.compile(fnmatch.translate(text(pattern).replace("[^", "[!"))).match
