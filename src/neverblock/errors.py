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
