"""What the guard knows of one blocking call: a row of its table."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from neverblock.watch.guard.waits import Waits, always

#: How a call is noticed.
#:
#: event: Python's own audit event (PEP 578). entry: at the entry of the C function. lock: there,
#: and only if the lock is held. socket: there, and only if the socket blocks. wait: there, but not
#: where a loop of asyncio waits. next: where a C type is iterated over. body: in front of the body
#: of a Python function. through: by what it calls. shield: what closes a file is never refused, nor
#: what it calls: an error would lose data.
How: TypeAlias = Literal[
    "event", "entry", "lock", "socket", "wait", "next", "body", "through", "shield"
]

#: In a cure: the one number that the call was given.
NUMBER: Final = "<number>"
#: The cure of what waits at each step of a loop over it, not where it is called.
LOOP: Final = "one function with the whole loop, run by asyncio.to_thread"


@dataclass(frozen=True, slots=True)
class Call:
    """A function that may block, by its public name."""

    name: str
    how: How
    #: The audit event, or the function itself as ``module:attribute.attribute``; of what is caught
    #: through others, one of those.
    at: str
    #: What to write instead.
    cure: str = ""
    #: Whether one call of it would wait.
    waits: Waits = always
    #: The methods of BlockHound's list that it answers to.
    java: str = ""
    #: Of calls that share an audit event: whether its arguments are this one's; None: it is the one
    #: where they are no other's.
    meant: Waits | None = None

    def instead(self, args: tuple[object, ...] = ()) -> str:
        """The cure for a call with these arguments; where none is known, with "…" for it."""
        known = len(args) == 1 and isinstance(args[0], int | float)
        return self.cure.replace(NUMBER, repr(args[0]) if known else "…")


def each(
    names: str, how: How, at: str, cure: str, waits: Waits = always, java: str = ""
) -> Iterator[Call]:
    """Several alike; in what is given, ``{}`` is the name, without what is before the last dot."""
    prefix, _, last = names.rpartition(" ")
    for name in [*prefix.split(), last]:
        short = name.rpartition(".")[2]
        yield Call(name, how, at.format(short), cure.format(name), waits, java)


def rows(*parts: Call | Iterable[Call]) -> tuple[Call, ...]:
    found: list[Call] = []
    for part in parts:
        if isinstance(part, Call):
            found.append(part)
        else:
            found.extend(part)
    return tuple(found)
