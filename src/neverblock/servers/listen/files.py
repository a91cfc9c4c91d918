"""Socket files: looked at and changed under a lock on their directory, and told apart."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def locked(directory: str) -> Iterator[None]:
    """No other server of ours looks at, takes or removes a socket file there meanwhile."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def identity(path: str) -> tuple[int, int] | None:
    """What tells a file from another that took its name."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
