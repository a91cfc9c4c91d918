"""Every exception of ours; each message says what, where and the cure. A leaf: imports nothing."""


class DescriptorLimitError(ValueError):
    """A descriptor is past what the multiplexer can watch (select(2): FD_SETSIZE)."""

    def __init__(self, backend: str, descriptor: int, limit: int) -> None:
        super().__init__(
            f"{backend} cannot watch descriptor {descriptor}: it can watch 0 to {limit - 1} only; "
            f'use backend "epoll" or "poll" (NEVERBLOCK_BACKEND=poll)'
        )
        self.backend = backend
        self.descriptor = descriptor
        self.limit = limit

    def __reduce__(self) -> tuple[type["DescriptorLimitError"], tuple[str, int, int]]:
        return type(self), (self.backend, self.descriptor, self.limit)


class InternalError(RuntimeError):
    """A bug of ours, not of the program that met it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; this is a bug in neverblock, please report it")


class HandlerError(ValueError):
    """What was named as a handler cannot be one, or cannot be loaded."""


class SettingsError(ValueError):
    """An option of a server that cannot be had; ``name`` is the option's."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type["SettingsError"], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class BindError(OSError):
    """Listening on a bind URL is not possible; ``errno`` is the kernel's where it refused."""

    def __init__(self, url: str, reason: str, errno: int | None = None) -> None:
        super().__init__(errno, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot listen on {self.url}: {self.reason}"

    def __reduce__(self) -> tuple[type["BindError"], tuple[str, str, int | None]]:
        return type(self), (self.url, self.reason, self.errno)


class OutputError(OSError):
    """A file that the watch is to write cannot be written."""

    def __init__(self, path: str, reason: str, errno: int | None = None) -> None:
        super().__init__(errno, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"cannot write {self.path}: {self.reason}; name a file in a directory that is there "
            "and may be written"
        )

    def __reduce__(self) -> tuple[type["OutputError"], tuple[str, str, int | None]]:
        return type(self), (self.path, self.reason, self.errno)


class ConnectionLostError(ConnectionError):
    """The peer reset the connection, or the network gave it up: nothing more comes or goes."""

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(f"connection with {peer} lost: {reason}")
        self.peer = peer
        self.reason = reason

    def __reduce__(self) -> tuple[type["ConnectionLostError"], tuple[str, str]]:
        return type(self), (self.peer, self.reason)


class StreamClosedError(RuntimeError):
    """A stream was used after this side had closed it, or its sending half."""


class StreamBusyError(RuntimeError):
    """Two tasks (or threads) receive from one stream: the bytes would go to either."""


class EventLoopNeededError(RuntimeError):
    """A handler awaited what needs an event loop, under a server model that has none."""

    def __init__(self, model: str, awaited: str, where: str) -> None:
        super().__init__(
            f"{where} awaits {awaited}, which needs an event loop; the {model} model has none: "
            f"call what blocks instead (time.sleep for asyncio.sleep), or serve with --model loop"
        )
        self.model = model
        self.awaited = awaited
        self.where = where

    def __reduce__(self) -> tuple[type["EventLoopNeededError"], tuple[str, str, str]]:
        return type(self), (self.model, self.awaited, self.where)


class IncompleteReceiveError(EOFError):
    """The input ended before what was asked for; ``partial`` is what came, already consumed."""

    def __init__(self, partial: bytes, awaited: str) -> None:
        super().__init__(f"input ended after {len(partial)} bytes while waiting for {awaited}")
        self.partial = partial
        self.awaited = awaited

    def __reduce__(self) -> tuple[type["IncompleteReceiveError"], tuple[bytes, str]]:
        return type(self), (self.partial, self.awaited)


class LimitExceededError(ValueError):
    """The delimiter did not come within ``max_bytes``; nothing was consumed."""

    def __init__(self, delimiter: bytes, max_bytes: int) -> None:
        super().__init__(
            f"no {delimiter!r} within {max_bytes} bytes; "
            f"allow more with max_bytes, or end the connection"
        )
        self.delimiter = delimiter
        self.max_bytes = max_bytes

    def __reduce__(self) -> tuple[type["LimitExceededError"], tuple[bytes, int]]:
        return type(self), (self.delimiter, self.max_bytes)


class ResultsError(ValueError):
    """A file of results cannot be read; ``reason`` names the place in it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type["ResultsError"], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class LabError(RuntimeError):
    """A measurement cannot be made: what the server or its clients said, or what is not there."""


class PlanError(ValueError):
    """A load that cannot be made as planned; ``name`` is the field of the plan."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type["PlanError"], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class BlockingCallError(RuntimeError):
    """A call that blocks was made in the thread of a strict loop; it was not carried out.

    ``call`` is what the program called, ``by`` what that calls to block, "" where it is the same;
    ``where`` is the program's line, ``cure`` what to write instead.
    """

    def __init__(self, call: str, by: str, where: str, cure: str) -> None:
        through = f" (by {by})" if by else ""
        at = f", at {where}" if where else ""
        super().__init__(
            f"{call}{through} blocks the event loop{at}; instead: {cure}; where it has to block: "
            f'with neverblock.allow_blocking("why"):'
        )
        self.call = call
        self.by = by
        self.where = where
        self.cure = cure

    def __reduce__(self) -> tuple[type["BlockingCallError"], tuple[str, str, str, str]]:
        return type(self), (self.call, self.by, self.where, self.cure)
