"""What makes a multiplexer a ``selectors.BaseSelector``: file objects and data beside descriptors.

- Behaves as the standard library's selectors do, errors included (``selectors`` module docs).
- Knows the registrations made here alone: descriptors that an engine adds by the C contract
  are in the same kernel table, not in the map.
"""

from collections.abc import Iterator, Mapping
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

    from neverblock.multiplexers.base import Multiplexer

    class Base(Multiplexer, BaseSelector): ...  # what a Selector is once it is joined to one
else:
    Base = BaseSelector


def descriptor(fileobj: "FileDescriptorLike") -> int:
    """The descriptor of an int or of an object with ``fileno()``; ValueError if there is none."""
    try:
        fd = fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"neither a file descriptor nor an open file: {fileobj!r}") from None
    if fd < 0:
        raise ValueError(f"not a file descriptor: {fd}")
    return fd


class Registrations(Mapping["FileDescriptorLike", SelectorKey]):
    """A read-only view of what a selector watches, by file object or descriptor."""

    def __init__(self, keys: dict[int, SelectorKey]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __getitem__(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        try:
            return self._keys[lookup(self._keys, fileobj)]
        except KeyError:
            unknown(fileobj)

    def __repr__(self) -> str:
        return f"<{len(self)} registrations>"


def lookup(keys: dict[int, SelectorKey], fileobj: "FileDescriptorLike") -> int:
    """The descriptor of ``fileobj``, also of one that was closed since it was registered."""
    try:
        return descriptor(fileobj)
    except ValueError:
        for key in keys.values():
            if key.fileobj is fileobj:
                return key.fd
        raise


def unknown(fileobj: "FileDescriptorLike") -> NoReturn:
    raise KeyError(f"{fileobj!r} is not registered") from None


class Selector(Base):
    """A ``selectors.BaseSelector`` over a multiplexer, to be inherited after it."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[int, SelectorKey] = {}
        self._map: Registrations | None = Registrations(self._keys)

    def register(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> SelectorKey:
        """Watches ``fileobj`` for ``events`` (EVENT_READ, EVENT_WRITE or both).

        Raises ValueError for bad events or a bad file object, KeyError if it is registered
        already, OSError if the kernel refuses it.
        """
        if not events or events & ~(EVENT_READ | EVENT_WRITE):
            raise ValueError(f"not a mask of EVENT_READ and EVENT_WRITE: {events!r}")
        key = SelectorKey(fileobj, lookup(self._keys, fileobj), events, data)
        if key.fd in self._keys:
            raise KeyError(f"{fileobj!r} (descriptor {key.fd}) is registered already")
        self._add(key.fd, events)
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        """Stops watching ``fileobj``, open or closed; KeyError if it is not registered."""
        try:
            key = self._keys.pop(lookup(self._keys, fileobj))
        except KeyError:
            unknown(fileobj)
        self._drop(key.fd)
        return key

    def modify(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> SelectorKey:
        """Watches a registered ``fileobj`` for other events, or with other data.

        Raises KeyError if it is not registered. If the kernel refuses, OSError is raised
        and ``fileobj`` is not registered any more.
        """
        try:
            key = self._keys[lookup(self._keys, fileobj)]
        except KeyError:
            unknown(fileobj)
        if events != key.events:
            try:
                self._change(key.fd, events)
            except BaseException:
                self.unregister(key.fd)
                raise
        if (events, data) != (key.events, key.data):
            key = key._replace(events=events, data=data)
            self._keys[key.fd] = key
        return key

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Waits until a registered file object is ready, ``timeout`` seconds at most.

        None waits without end, 0 or less not at all. A signal whose handler does not raise
        does not end the wait (PEP 475).
        """
        left = -1.0 if timeout is None else max(timeout, 0.0)
        end = monotonic() + left
        while not (ready := self._wait(left, len(self._keys))) and left != 0:
            if left > 0 and (left := end - monotonic()) <= 0:
                break
        keys = self._keys
        return [(keys[fd], mask & keys[fd].events) for fd, mask in ready if fd in keys]

    def close(self) -> None:
        """Forgets every registration and gives back what the kernel lent; file objects stay open.

        May be called again, and in a forked child, whose parent does not notice.
        """
        self._keys.clear()
        self._map = None
        self._release()

    def get_map(self) -> Mapping["FileDescriptorLike", SelectorKey]:
        """What is registered; the standard library's selectors return None after close()."""
        return self._map  # type: ignore[return-value]

    def get_key(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        """The key of a registered file object; KeyError if unknown, RuntimeError if closed."""
        if self._map is None:
            raise RuntimeError("the selector is closed")
        return self._map[fileobj]
