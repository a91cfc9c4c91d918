"""Values of options as people write them: ``auto`` workers, a size with a suffix, an octal mode,
a threshold that may be ``off``.

Each says in ``accepts`` what it may be in a config file, which has numbers of its own.
"""

import re
from typing import TYPE_CHECKING, Any, ClassVar

import click

from neverblock.servers.settings import workers_for_this_machine
from neverblock.watch import LEAST_THRESHOLD

#: What these make of a text, in the words of click: its later versions tell checkers the type.
if TYPE_CHECKING:
    Number = click.ParamType[int]
    Seconds = click.ParamType[float]
else:
    Number = Seconds = click.ParamType

SUFFIXES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


class Workers(Number):
    """A number, or ``auto``: one for each CPU."""

    name = "workers"
    accepts: ClassVar = (int, str)
    words = 'a whole number or "auto"'

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        if value == "auto":
            return workers_for_this_machine()
        try:
            return int(value)
        except ValueError:
            self.fail(f"write {self.words}, not {value!r}", param, context)


class Size(Number):
    """Bytes: 262144, 256K, 8M."""

    name = "size"
    accepts: ClassVar = (int, str)
    words = 'bytes, like 262144, "256K" or "8M"'

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        found = re.fullmatch(r"(\d+)([KMG]?)(i?B)?", str(value), re.ASCII | re.IGNORECASE)
        if found is None:
            self.fail(f"write {self.words}, not {value!r}", param, context)
        return int(found[1]) * SUFFIXES[found[2].upper()]


class Mode(Number):
    """Permissions, in octal: 0660, 660, 0o660. A number in a file would be taken for decimal."""

    name = "mode"
    accepts: ClassVar = (str,)
    words = 'an octal mode in quotes, like "0660"'

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        if isinstance(value, int):  # It is one already.
            return value
        found = re.fullmatch(r"(?:0o)?([0-7]{1,5})", value)
        if found is None:
            self.fail(f"write an octal mode, like 0660, not {value!r}", param, context)
        return int(found[1], 8)


class Limit(Seconds):
    """Seconds that something may take until the watch tells of it."""

    name = "seconds"
    accepts: ClassVar[tuple[type, ...]] = (int, float)
    words = "seconds, like 0.1"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        seconds = number_of(value)
        if not LEAST_THRESHOLD <= seconds < float("inf"):
            self.fail(
                f"write {self.words}, and no less than {LEAST_THRESHOLD}, not {value!r}",
                param,
                context,
            )
        return seconds


class Threshold(Limit):
    """The same, or ``off``, which is 0: nobody watches."""

    name = "threshold"
    accepts = (int, float, str)
    words = 'seconds, like 0.1, or "off"'

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        if value == "off" or number_of(value) == 0:
            return 0.0
        return super().convert(value, param, context)


def number_of(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")
