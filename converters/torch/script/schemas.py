"""The operators' schemas, and which overload a call in the code means.

`schemas.txt` has one schema a line, in torch's order, which is the order in which torch itself tries the overloads when
it loads an archive. Written by `.ci/schemas`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from isomorph.converters.torch.program import Ref
from isomorph.converters.torch.script.values import Device, Number, SizeTensor
from isomorph.ir import Sym

__all__ = ["Argument", "Schema", "overloads", "resolve"]

_LINE = re.compile(r"(?:(\w+)::)?(\w+)(?:\.(\w+))?\((.*)\) -> (.*)")
_ALIAS = re.compile(r"\([\w\s|!*>-]+\)")


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument. `kind` is its type without alias marks: "Tensor", "SymInt[2]", "ScalarType?" …

    default  the text of its default, None if it has none
    keyword  whether it is given by keyword only
    """

    name: str
    kind: str
    default: str | None
    keyword: bool

    def is_default(self, value: Any) -> bool:
        """Whether a given value says no more than the default does."""
        plain = value is None or isinstance(value, bool | int | float | str)
        return plain and (repr(value) if not isinstance(value, str) else f'"{value}"') == self.default


@dataclass(frozen=True, slots=True)
class Schema:
    """One overload. `target` is its name as rules know it, `returns` the types that it returns."""

    target: str
    arguments: tuple[Argument, ...]
    returns: tuple[str, ...]

    def bind(self, args: Sequence[Any], keywords: Mapping[str, Any], *, lenient: bool) -> dict[str, Any] | None:
        """The arguments by name, or None if they do not fit. Arguments left at their defaults are absent."""
        positional = [argument for argument in self.arguments if not argument.keyword]
        if len(args) > len(positional):
            return None
        bound = {argument.name: value for argument, value in zip(positional, args, strict=False)}
        if bound.keys() & keywords.keys():
            return None
        bound.update(keywords)
        known = {argument.name: argument for argument in self.arguments}
        if not bound.keys() <= known.keys():
            return None
        if any(argument.default is None and argument.name not in bound for argument in self.arguments):
            return None
        fits = all(_fits(value, known[name].kind, lenient) for name, value in bound.items())
        return bound if fits else None


def resolve(name: str, args: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[Schema, dict[str, Any]] | None:
    """The overload of `name` ("conv2d", "torchvision::nms") that a call means, and its arguments by name.

    Torch takes the first that fits without conversions; then the first that fits when a tensor may be a number and a
    number a float.
    """
    for lenient in (False, True):
        for schema in overloads(name):
            bound = schema.bind(args, keywords, lenient=lenient)
            if bound is not None:
                return schema, bound
    return None


@cache
def overloads(name: str) -> tuple[Schema, ...]:
    """The overloads of an operator, in torch's order; none if it is not known."""
    return tuple(_schema(line) for line in _table().get(name, ()))


@cache
def _table() -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for line in Path(__file__).with_name("schemas.txt").read_text("ascii").splitlines():
        if not line.startswith("#"):
            table.setdefault(line.partition("(")[0].partition(".")[0], []).append(line)
    return table


def _schema(line: str) -> Schema:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"not a schema: {line}")
    space, name, overload, arguments, returns = match.groups()
    return Schema(f"{space or 'aten'}.{name}.{overload or 'default'}", _arguments(arguments), _returns(returns))


def _arguments(text: str) -> tuple[Argument, ...]:
    found: list[Argument] = []
    keyword = False
    for piece in _pieces(text):
        if piece == "*":
            keyword = True
        elif piece != "...":
            plain = _ALIAS.sub("", piece) if not piece.startswith("Dict") else piece
            head, equals, default = plain.partition("=")
            kind, _, name = head.strip().rpartition(" ")
            found.append(Argument(name, kind, default.strip() if equals else None, keyword))
    return tuple(found)


def _returns(text: str) -> tuple[str, ...]:
    plain = _ALIAS.sub("", text)
    inner = plain[1:-1] if plain.startswith("(") and plain.endswith(")") else plain
    return tuple(piece.partition(" ")[0] for piece in _pieces(inner))


def _pieces(text: str) -> list[str]:
    """The parts between commas that are outside of brackets."""
    pieces, depth, start = [], 0, 0
    for position, char in enumerate(text):
        depth += (char in "([") - (char in ")]")
        if char == "," and not depth:
            pieces.append(text[start:position].strip())
            start = position + 1
    return [piece for piece in [*pieces, text[start:].strip()] if piece]


def _fits(value: Any, kind: str, lenient: bool) -> bool:
    if kind.endswith("?"):
        return value is None or _fits(value, kind[:-1], lenient)
    if kind.endswith("]"):
        element, _, length = kind[:-1].rpartition("[")
        if isinstance(value, list):
            return all(_fits(item, element, lenient) for item in value)
        if isinstance(value, tuple) and lenient:
            return all(_fits(item, element, lenient) for item in value)
        return bool(length) and _fits(value, element, lenient)
    test = _TESTS.get(kind)
    if test is None:
        return not kind.startswith("Dict") or isinstance(value, dict)
    return test(value) or (lenient and kind in _LENIENT and _LENIENT[kind](value))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Ref | SizeTensor)


def _is_int(value: Any) -> bool:
    return isinstance(value, Sym) or (isinstance(value, int) and not isinstance(value, bool))


def _is_float(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, Number) and value.kind is float)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, Number) and value.kind is bool)


def _is_number(value: Any) -> bool:
    return _is_int(value) or _is_float(value) or isinstance(value, complex)


_TESTS: dict[str, Any] = {
    "Tensor": _is_tensor,
    "int": _is_int,
    "SymInt": _is_int,
    "float": _is_float,
    "bool": _is_bool,
    "complex": lambda value: isinstance(value, complex),
    "Scalar": _is_number,
    "str": lambda value: isinstance(value, str),
    "Device": lambda value: isinstance(value, Device),
    "ScalarType": _is_int,
    "Layout": _is_int,
    "MemoryFormat": _is_int,
    "Generator": lambda _: False,
    "Storage": lambda _: False,
}
_LENIENT: dict[str, Any] = {
    "Tensor": lambda _: False,
    "int": _is_tensor,
    "SymInt": _is_tensor,
    "float": lambda value: _is_tensor(value) or _is_number(value),
    "Scalar": lambda value: _is_tensor(value) or _is_bool(value),
    "bool": _is_tensor,
    "Device": lambda value: isinstance(value, str),
}
