"""Strict reading of the manifest's tables: every key has a type, and none is left over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from isomorph.errors import MalformedError

__all__ = ["Table"]

T = TypeVar("T")
_ABSENT: Any = object()


class Table:
    """One table of a TOML document; `where` is its place, for messages. Keys are consumed, `finish` refuses the rest.

    Raises MalformedError for a missing key, a wrong type or an unknown key.
    """

    def __init__(self, content: Any, where: str) -> None:
        self.where = where
        if not isinstance(content, Mapping):
            raise self.error(f"a table is expected, not {_kind(content)}")
        self._left = dict(content)

    def error(self, what: str) -> MalformedError:
        return MalformedError(f"the zoo's manifest is wrong: {what}", at=self.where)

    def text(self, key: str, default: str = _ABSENT) -> str:
        value: str = self._take(key, default, str, "a string")
        return value

    def integer(self, key: str, default: int = _ABSENT) -> int:
        value: int = self._take(key, default, int, "an integer")
        return value

    def number(self, key: str, default: float = _ABSENT) -> float:
        value: float | int = self._take(key, default, (int, float), "a number")
        return float(value)

    def integers(self, key: str, default: tuple[int, ...] = _ABSENT) -> tuple[int, ...]:
        return self._list(key, default, int, "integers")

    def numbers(self, key: str, default: tuple[float, ...] = _ABSENT) -> tuple[float, ...]:
        return tuple(float(value) for value in self._list(key, default, (int, float), "numbers"))

    def sizes(self, key: str) -> tuple[int | str, ...]:
        """A shape: sizes, and names of symbolic sizes."""
        return self._list(key, _ABSENT, (int, str), "sizes and names")

    def table(self, key: str) -> Table:
        return Table(self._take(key, _ABSENT, Mapping, "a table"), f"{self.where}.{key}")

    def tables(self, key: str, *, least: int = 0) -> list[Table]:
        """An array of tables; absent is empty."""
        entries = self._take(key, [], list, "an array of tables")
        if len(entries) < least:
            raise self.error(f"`{key}` needs {least} entry or more")
        return [Table(entry, f"{self.where}.{key}[{index}]") for index, entry in enumerate(entries)]

    def choice(self, key: str, choices: Mapping[str, T]) -> T:
        """The value that the string at `key` names."""
        name = self.text(key)
        if name not in choices:
            raise self.error(f"`{key}` is {name!r}, not one of {', '.join(sorted(choices))}")
        return choices[name]

    def rest(self, read: Callable[[Table, str], T]) -> dict[str, T]:
        """`read(self, key)` of every key that is left."""
        return {key: read(self, key) for key in list(self._left)}

    def has(self, key: str) -> bool:
        return key in self._left

    def finish(self) -> None:
        if self._left:
            raise self.error(f"unknown key {', '.join(f'`{key}`' for key in self._left)}")

    @contextmanager
    def closed(self) -> Iterator[Table]:
        """Within the block the table is read; at its end nothing may be left."""
        yield self
        self.finish()

    def _take(self, key: str, default: Any, kinds: Any, expected: str) -> Any:
        value = self._left.pop(key, default)
        if value is _ABSENT:
            raise self.error(f"`{key}` is missing")
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise self.error(f"`{key}` must be {expected}, not {_kind(value)}")
        return value

    def _list(self, key: str, default: Any, kinds: Any, expected: str) -> tuple[Any, ...]:
        values = self._take(key, default, (list, tuple), f"a list of {expected}")
        if any(not isinstance(value, kinds) or isinstance(value, bool) for value in values):
            raise self.error(f"`{key}` must be a list of {expected}")
        return tuple(values)


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:60]
