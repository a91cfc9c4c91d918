"""How a line looks: colour, dash and shape, the same for the same name on the whole page.

- Colours are CSS variables, --c0 to --c7: the page gives them one value in the light and one in
  the dark, so a chart needs no second drawing.
- Each has a contrast of 3 : 1 or more against its background (WCAG 2.2, 1.4.11), and any two can be
  told apart with each kind of colour blindness; a test computes both. They are Okabe and Ito's
  hues, moved until that holds on white and on black.
- Colour is never alone: lines have shapes and a label at their end, bars have names.
"""

from __future__ import annotations

from dataclasses import dataclass

LIGHT = ("#1b479c", "#d47e13", "#2a8c70", "#8a1c08", "#6f084e", "#009ad6", "#8d6a01", "#585c63")
DARK = ("#4392e7", "#e78c31", "#7af5b0", "#af4034", "#c55889", "#22c0fd", "#eec03f", "#a3aeb7")
#: What the charts stand on.
LIGHT_GROUND, DARK_GROUND = "#ffffff", "#15181c"

SHAPES = (
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right",
    "triangle-left",
)  # fmt: skip
DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3))

#: Names that every report has keep their colours from one report to the next.
KNOWN = {
    "loop": 0,
    "workers": 5,
    "thread": 1,
    "pool": 2,
    "process": 3,
    "iterative": 7,
    "epoll": 0,
    "poll": 2,
    "select": 3,
    "io_uring": 4,
    "kqueue": 6,
    "asyncio": 7,
    "uvloop": 4,
    "rloop": 6,
}
PEERS = ("asyncio", "uvloop", "rloop")


@dataclass(frozen=True, slots=True)
class Style:
    slot: int
    dash: int = 0

    @property
    def colour(self) -> str:
        return f"var(--c{self.slot})"

    @property
    def dashes(self) -> tuple[int, ...]:
        return DASHES[self.dash]

    @property
    def shape(self) -> str:
        return SHAPES[(self.slot + 3 * self.dash) % len(SHAPES)]


def styles(keys: list[tuple[str, ...]]) -> dict[tuple[str, ...], Style]:
    """One for each line: what it is called first decides the colour, the rest the dash.

    Where all share their first name, the next one decides; another loop has a colour of its own.
    """
    place = next((n for n in range(max(map(len, keys), default=0)) if _differ(keys, n)), 0)
    leads = [_lead(key, place) for key in keys]
    slots = _slots(list(dict.fromkeys(leads)))
    found: dict[tuple[str, ...], Style] = {}
    used: dict[int, int] = {}
    for key, lead in zip(keys, leads, strict=True):
        slot = slots[lead]
        found[key] = Style(slot, used.get(slot, 0) % len(DASHES))
        used[slot] = used.get(slot, 0) + 1
    return found


def _lead(key: tuple[str, ...], place: int) -> str:
    return next((name for name in key if name in PEERS), _at(key, place))


def _differ(keys: list[tuple[str, ...]], place: int) -> bool:
    return len({_at(key, place) for key in keys}) > 1


def _at(key: tuple[str, ...], place: int) -> str:
    return key[place] if place < len(key) else ""


def _slots(names: list[str]) -> dict[str, int]:
    slots: dict[str, int] = {}
    for name in names:
        known = KNOWN.get(name)
        if known is not None and known not in slots.values():
            slots[name] = known
    free = [slot for slot in range(len(LIGHT)) if slot not in slots.values()]
    for name in names:
        if name not in slots:
            slots[name] = free.pop(0) if free else len(slots) % len(LIGHT)
    return slots
