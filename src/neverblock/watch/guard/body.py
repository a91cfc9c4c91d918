"""Standing before the body of a Python function, which stays the same object under every name."""

import inspect
from types import FunctionType, SimpleNamespace
from typing import Any

from neverblock.watch.guard import entries
from neverblock.watch.guard.call import Call

#: In the code that is put in place this number stands where what asks goes.
MARK = 3j


class Body:
    """One function, asked about while it is set up."""

    def __init__(self, function: FunctionType, call: Call) -> None:
        self._function = function
        self._code = function.__code__
        original = FunctionType(
            self._code, function.__globals__, function.__name__, function.__defaults__
        )

        def asked(*args: Any) -> Any:
            entries.ask_now(call, args)
            return original(*args)

        names = ", ".join(inspect.signature(function).parameters)
        source = f"def {function.__name__}({names}): return {MARK}.asked({names})"
        made: dict[str, Any] = {}
        exec(source, made)
        code = made[function.__name__].__code__
        self._ours = code.replace(
            co_consts=tuple(
                SimpleNamespace(asked=asked) if constant == MARK else constant
                for constant in code.co_consts
            ),
            co_filename=self._code.co_filename,
            co_firstlineno=self._code.co_firstlineno,
        )

    def set_up(self) -> None:
        if self._function.__code__ is self._code:
            self._function.__code__ = self._ours

    def take_down(self) -> None:
        if self._function.__code__ is self._ours:
            self._function.__code__ = self._code
