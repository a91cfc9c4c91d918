"""``allow_blocking``: code that may block the loop, with the reason why.

- The permission is the context's (PEP 567): it holds across awaits, not in other tasks.
- It ends with its block everywhere: what was scheduled or started inside has a copy of the
  context, but not longer the permission.
- A block ends its own permission, whichever is the current one: a generator that yields inside a
  block leaves it to whoever runs it, and may be closed in another context.
"""

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


class Permission:
    """One block of ``owner``, open or over; ``outer`` is the one around it."""

    __slots__ = ("open", "outer", "owner", "reason")

    def __init__(self, owner: "allow_blocking", reason: str, outer: "Permission | None") -> None:
        self.open = True
        self.owner = owner
        self.reason = reason
        self.outer = outer


current: ContextVar[Permission | None] = ContextVar("neverblock.allow_blocking", default=None)


def reason() -> str | None:
    """Why the calling code may block; None: it may not."""
    permission = current.get()
    while permission is not None:
        if permission.open:
            return permission.reason
        permission = permission.outer
    return None


class allow_blocking:  # noqa: N801  # reads as a statement: with neverblock.allow_blocking("…"):
    """Let code block a strict loop: ``with allow_blocking("why"):``, or as a decorator.

    Holds within the block, also across its awaits, and not in other tasks; a decorated function
    or coroutine function is such a block. Where no loop is strict it does nothing.

    Raises TypeError for a reason that is no string and for generator functions, which would give
    the permission to whoever runs them; ValueError for an empty reason.
    """

    __slots__ = ("_open", "_reason")

    def __init__(self, reason: str) -> None:
        if not isinstance(reason, str):
            raise TypeError(f"allow_blocking() needs the reason, a string, not {reason!r}")
        if not reason.strip():
            raise ValueError("allow_blocking() needs a reason: say why this may block the loop")
        self._reason = reason
        self._open: dict[Permission, None] = {}  # the newest last

    def __enter__(self) -> Self:
        outer = current.get()
        while outer is not None and not outer.open:
            outer = outer.outer
        permission = Permission(self, self._reason, outer)
        self._open[permission] = None
        current.set(permission)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        permission = current.get()
        while permission is not None and not (permission.open and permission.owner is self):
            permission = permission.outer
        if permission is not None:
            self._open.pop(permission, None)
            current.set(permission.outer)
        elif self._open:  # left in another context than it was entered in
            permission, _ = self._open.popitem()
        else:
            return
        permission.open = False

    def __call__(self, function: Function) -> Function:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                "allow_blocking() cannot decorate a generator; "
                "use `with` inside it, not around a yield"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def allowed_coroutine(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return cast("Function", allowed_coroutine)

        @functools.wraps(function)
        def allowed(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return cast("Function", allowed)
