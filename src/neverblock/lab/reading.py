"""Reading JSON that somebody may have edited: each value by its place, as each mistake is told."""

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, NoReturn


class WrongError(ValueError):
    """A value is missing or of another kind; the message begins with its place."""


class Object:
    """A JSON object; ``place`` is where it stands, like ``rows[3]``, "" for the whole document."""

    def __init__(self, place: str, content: object) -> None:
        self.place = place
        if not isinstance(content, dict):
            raise WrongError(f"{place or 'the document'} is {shown(content)}, not an object")
        self.content: Mapping[str, Any] = content

    def text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str):
            self._refuse(name, value, "a text")
        return value

    def number(self, name: str) -> float:
        value = self._get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
            self._refuse(name, value, "a number")
        return value

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            self._refuse(name, value, "true or false")
        return value

    def texts(self, name: str) -> list[str]:
        values = self._list(name)
        for number, value in enumerate(values):
            if not isinstance(value, str):
                self._refuse(f"{name}[{number}]", value, "a text")
        return values

    def objects(self, name: str) -> Iterator["Object"]:
        for number, value in enumerate(self._list(name)):
            yield Object(f"{self._at(name)}[{number}]", value)

    def members(self, name: str) -> Iterator[tuple[str, "Object"]]:
        for member, value in self.mapping(name).items():
            yield member, Object(f"{self._at(name)}.{member}", value)

    def mapping(self, name: str) -> Mapping[str, Any]:
        return Object(self._at(name), self._get(name)).content

    def scalars(self, name: str) -> Mapping[str, str | int | float | bool | None]:
        values = self.mapping(name)
        for member, value in values.items():
            if isinstance(value, dict | list):
                self._refuse(f"{name}.{member}", value, "a text, a number, true, false or null")
        return values

    def _list(self, name: str) -> list[Any]:
        value = self._get(name)
        if not isinstance(value, list):
            self._refuse(name, value, "a list")
        return value

    def _get(self, name: str) -> Any:
        try:
            return self.content[name]
        except KeyError:
            raise WrongError(f"{self._at(name)} is missing") from None

    def _at(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name

    def _refuse(self, name: str, value: object, wanted: str) -> NoReturn:
        raise WrongError(f"{self._at(name)} is {shown(value)}, not {wanted}")


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
