"""What a row of the benchmark is: how it is measured, what it is held against, its bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.loops import PEERS


@dataclass(frozen=True)
class Settings:
    """What every measurement of a run has in common."""

    programs: Path
    server_core: int
    client_core: int
    quick: bool


@dataclass(frozen=True)
class Sample:
    """One measurement: the row's value and what else was read; `notes` cast doubt on it."""

    value: float
    details: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bar:
    """What our loop must reach.

    `of` is "ratio" (to the row's references) or "value"; `aim` is what we would like.
    """

    of: str
    limit: float
    aim: float | None = None


@dataclass(frozen=True)
class Row:
    """One thing measured on every loop.

    `more_is_better` tells which way the value and the bar run. The ratio is to the best of
    `references`, round by round. `with_c` puts the bare C server among the loops. `rounds` caps
    the rounds of a row whose value hardly varies.
    """

    name: str
    group: str
    unit: str
    measure: Callable[[str, Settings], Sample]
    more_is_better: bool
    references: tuple[str, ...] = PEERS
    bar: Bar | None = None
    with_c: bool = False
    two_cores: bool = False
    rounds: int | None = None
