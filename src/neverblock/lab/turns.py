"""Servers under load side by side: all live at once, and are loaded in turn, again and again.

A machine has its moods, which last for seconds: a virtual one above all. Who is loaded for seconds
and then the next is measured in another mood. So each has a quarter of a second, then the next has
one, in another order each time, until all have had their time; what they came to is compared.

- While one is loaded nothing is asked of the others: its clients stop sending, and wait for what is
  under way, before the next one's begin.
- Where an answer takes long a turn does, too: it has room for many answers of each client.
- What goes wrong with one is its own outcome; the others go on.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeAlias

from neverblock.errors import LabError
from neverblock.lab import loading
from neverblock.lab.clients import answer
from neverblock.lab.experiment import FAILURES, Bench, Case, Outcome
from neverblock.lab.sampling import Sampler
from neverblock.lab.server import Server, clean, pinned

#: Seconds of a turn, if no answer takes long.
TURN: Final = 0.25
#: Answers that each client can have in a turn, at least, if the time suffices.
ANSWERS: Final = 30
#: The share of a turn by which it begins before it is measured.
LEAD: Final = 0.2
#: Seconds of the first turn, which is not measured, at least.
FIRST: Final = 0.1
#: Seconds that clients may take beyond their turn's own time: to open all connections, above all.
GRACE: Final = 60.0


#: Starts a case's server and its clients, to be ended by the stack, and tells whether the server
#: has statistics. Raises Unmeasurable, LabError, OSError.
Enter: TypeAlias = Callable[[Case, Bench, ExitStack], tuple[Server, "Clients", bool]]


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of a turn."""

    answered: int
    """Answers in the time measured."""
    total: int
    """All answers, with those before and after it."""
    seconds: float
    """How long was measured."""
    busy: float
    """The share of a core that the clients used."""


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients of one server, in a process of their own (lab/player.py)."""

    process: "subprocess.Popen[str]"
    timeout: float
    served: int
    """How many of them are answered, while the others wait."""

    def turn(self, seconds: float, lead: float = 0.0) -> Turn:
        """Let them ask for so long, after a lead that is not measured. Raises LabError."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # Its last words are read below.
            print(json.dumps({"seconds": seconds, "lead": lead}), file=self.process.stdin)
            self.process.stdin.flush()
        return Turn(**answer(self.process, seconds + lead + self.timeout + GRACE))

    def found(self) -> Mapping[str, Any]:
        """Latency and errors of all turns; they have left afterwards. Raises LabError."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        return answer(self.process, GRACE)


@contextmanager
def clients(
    target: str, *, cores: frozenset[int], connections: int, size: int, timeout: float, waiting: int
) -> Iterator[Clients]:
    """Clients that are connected. ``waiting`` of them may never have an answer. Raises LabError."""
    plan = {"target": target, "connections": connections, "size": size, "timeout": timeout}
    with pinned(cores):
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "neverblock.lab.player"),
                json.dumps({"plan": plan, "waiting": waiting}),
            ],
            env=clean(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            answer(process, timeout + GRACE)
            yield Clients(process, timeout, connections - waiting)
        finally:
            process.kill()
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()


@dataclass
class Entrant:
    """One case: its server, its clients, and what has come of them so far."""

    case: Case
    bench: Bench
    enter: Enter
    outcome: Outcome | None = None
    """What is known in the end; None: it takes part."""
    _turns: list[Turn] = field(default_factory=list)
    _length: float = TURN
    """Seconds of one turn."""
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.attempt(self.begin)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def attempt(self, work: Callable[[], None]) -> None:
        """Do it, if it takes part; if that fails, this is the outcome, and its server is ended."""
        if self.outcome is not None:
            return
        try:
            work()
        except FAILURES as error:
            self.outcome = error
            try:
                self._stack.__exit__(type(error), error, error.__traceback__)
            except FAILURES as reason:  # The server has ended, say, which the clients cannot know.
                self.outcome = reason

    def begin(self) -> None:
        """Start, and take a first turn, which tells how long one has to be."""
        settings = self.bench.settings
        self._server, self._clients, statistics = self.enter(self.case, self.bench, self._stack)
        lead = max(settings.warmup, FIRST)
        first = self._turn(0.0, lead)
        self._length = lasting(self._clients.served * lead / first.total, settings.duration)
        self._sampler = Sampler(self._server, statistics)
        self._sampler.read()

    @property
    def done(self) -> bool:
        left = self.bench.settings.duration - sum(turn.seconds for turn in self._turns)
        return self.outcome is not None or left < self._length / 2

    def take_turn(self) -> None:
        self._turns.append(self._turn(self._length, LEAD * self._length))

    def _turn(self, seconds: float, lead: float) -> Turn:
        turn = self._clients.turn(seconds, lead)
        if not turn.total:
            raise LabError(loading.unanswered(self._clients.found()["errors"]))
        return turn

    def finish(self) -> None:
        """Sum up, and end the server."""
        self._server.check()
        self._sampler.read()
        seconds = sum(turn.seconds for turn in self._turns)
        answered = sum(turn.answered for turn in self._turns)
        busy = sum(turn.busy * turn.seconds for turn in self._turns) / seconds
        found = self._clients.found()
        metrics = [
            *loading.answered(answered / seconds, found["latency"], found["errors"], busy),
            *loading.used(sum(turn.total for turn in self._turns), self._sampler),
        ]
        self._stack.close()
        self.outcome = metrics


def lasting(answer: float, duration: float) -> float:
    """Seconds of a turn where one answer takes so long: a whole part of the duration."""
    length = min(max(TURN, ANSWERS * answer), duration)
    return duration / max(1, round(duration / length))


def measure(cases: Sequence[Case], bench: Bench, enter: Enter) -> Iterator[tuple[Case, Outcome]]:
    """Load all of them side by side; the outcome of each."""
    order = random.Random(bench.settings.seed)
    with ExitStack() as stack:
        entrants = [stack.enter_context(Entrant(case, bench, enter)) for case in cases]
        while left := [each for each in entrants if not each.done]:
            order.shuffle(left)
            for each in left:
                each.attempt(each.take_turn)
        for each in entrants:
            each.attempt(each.finish)
            assert each.outcome is not None
            yield each.case, each.outcome
