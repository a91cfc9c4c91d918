"""Files that outputs write: told at the start where they cannot be, never seen half written."""

import errno
import os

from neverblock.errors import OutputError

APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK


def absolute(path: str | os.PathLike[str]) -> str:
    """Wherever the program changes its directory to."""
    return os.path.abspath(os.fspath(path))


def check_appendable(path: str) -> None:
    """Raises OutputError where append_to() cannot write, without making the file."""
    try:
        os.close(os.open(path, APPENDING))
    except FileNotFoundError:
        check_directory(path, os.path.dirname(os.path.realpath(path)))
    except OSError as error:
        raise OutputError(path, error.strerror or str(error), error.errno) from None


def append_to(path: str) -> int:
    """A descriptor, to be closed. Raises OSError; never waits, not for a FIFO's reader either."""
    return os.open(path, APPENDING | os.O_CREAT, 0o666)


def check_replaceable(path: str) -> None:
    """Raises OutputError where replace() cannot write."""
    if os.path.isdir(path):
        raise OutputError(path, os.strerror(errno.EISDIR), errno.EISDIR)
    check_directory(path, os.path.dirname(path))


def check_directory(path: str, directory: str) -> None:
    """Raises OutputError where a new file for ``path`` cannot be made in that directory."""
    if not os.path.isdir(directory):
        number = errno.ENOENT if not os.path.exists(directory) else errno.ENOTDIR
    elif not os.access(directory, os.W_OK | os.X_OK):
        number = errno.EACCES
    else:
        return
    raise OutputError(path, os.strerror(number), number)


def replace(path: str, text: str) -> None:
    """Write a file anew: who reads it sees the old one or the new one, whole. Raises OSError."""
    new = f"{path}.{os.getpid()}.tmp"
    try:
        with open(new, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.replace(new, path)
    except OSError:
        try:
            os.unlink(new)
        except OSError:
            pass
        raise


def of_process(path: str) -> str:
    """The name of this process's own: ``stalls.folded`` becomes ``stalls.1234.folded``."""
    stem, suffix = os.path.splitext(path)
    return f"{stem}.{os.getpid()}{suffix}"
