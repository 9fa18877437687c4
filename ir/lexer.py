"""Tokens of the text form of a model, and the values of attributes: numbers, dimensions, quoted texts, tuples.

Every error is a MalformedError that names the line and the column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from isomorph.errors import DTypeError, MalformedError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import OpaqueType, TensorType
from isomorph.ir.shapes import Sym, dim_max, dim_min
from isomorph.records import record

__all__ = ["OPAQUE_FORMS", "RESERVED", "Cursor", "Token", "literal", "opaque_type"]

RESERVED = frozenset(("None", "True", "False", "inf", "nan", "min", "max"))
"""Words that mean something in an attribute: a dimension of this name stands in backquotes."""

OPAQUE_FORMS = ("sequence", "optional", "map", "tensor")
"""Words in front of a parenthesis that begin a type (see OpaqueType)."""

_STRING = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(
    rf"""(?P<space>[ \t\r]+|\#.*)
    |(?P<string>{_STRING})
    |(?P<value>%(?:\w+(?:\.\w+)*|{_STRING}))
    |(?P<scope>@(?:(?:\w+(?:\.\w+)*|{_STRING})(?:~\d+)?)?)
    |(?P<number>\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)
    |(?P<word>[^\W\d]\w*(?:\.\w+)*)
    |(?P<dim>`[^`]+`)
    |(?P<sign>//|[-+*%()\[\]{{}},:=!])""",
    re.VERBOSE,
)
_DEEPEST = 64
_LONGEST_NUMBER = 40


@record
class Token:
    kind: str
    text: str
    column: int


class Cursor:
    """The tokens of one line, and what to do where they are not what is expected."""

    def __init__(self, line: str, number: int) -> None:
        self.number = number
        self.end = Token("end", "the end of the line", len(line) + 1)
        self.at = 0
        self.tokens = list(self._split(line))

    def _split(self, line: str) -> Iterator[Token]:
        position = 0
        while position < len(line):
            match = _TOKEN.match(line, position)
            if match is None:
                self.fail(f"unexpected character {line[position]!r}", Token("", "", position + 1))
            if match.lastgroup != "space":
                yield Token(str(match.lastgroup), match.group(), position + 1)
            position = match.end()

    @property
    def done(self) -> bool:
        return self.at >= len(self.tokens)

    @property
    def next(self) -> Token:
        return self.end if self.done else self.tokens[self.at]

    def fail(self, what: str, token: Token | None = None, because: str | None = None) -> NoReturn:
        place = self.next if token is None else token
        raise MalformedError(what, at=f"line {self.number}, column {place.column}", because=because)

    def take(self, kind: str, wanted: str) -> str:
        if self.next.kind != kind:
            self.fail(f"{wanted} expected, not {self.next.text}")
        self.at += 1
        return self.tokens[self.at - 1].text

    def accept(self, text: str) -> bool:
        """Step over a sign or word if it is next."""
        if self.next.kind in ("sign", "word") and self.next.text == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail(f"{text!r} expected, not {self.next.text}")

    def expect_end(self) -> None:
        if not self.done:
            self.fail(f"the end of the line expected, not {self.next.text}")

    def string(self) -> str:
        return self.unquoted(self.take("string", "a quoted text"))

    def unquoted(self, text: str) -> str:
        try:
            return str(json.loads(text, strict=False))
        except ValueError:
            return self.fail(f"a broken escape in {text}", self.tokens[self.at - 1])

    def name(self) -> str:
        """A plain or quoted name."""
        if self.next.kind == "string":
            return self.string()
        if self.next.kind in ("word", "number"):
            self.at += 1
            return self.tokens[self.at - 1].text
        return self.fail(f"a name expected, not {self.next.text}")

    def sigil(self, kind: str, wanted: str) -> str:
        """The name behind % or @, unquoted; the `~1` of a scope stays."""
        text = self.take(kind, wanted)[1:]
        if not text.startswith('"'):
            return text
        end = text.rindex('"') + 1
        return self.unquoted(text[:end]) + text[end:]

    def integer(self) -> int:
        token = self.next
        value = _number(self)
        if not isinstance(value, int):
            self.fail(f"a whole number expected, not {token.text}", token)
        return value

    def separated(self, close: str, item: Callable[[], Any]) -> list[Any]:
        """Items between commas up to `close`, which is stepped over."""
        items: list[Any] = []
        while not self.accept(close):
            if items:
                self.expect(",")
            items.append(item())
        return items


def _number(cursor: Cursor) -> int | float:
    text = cursor.take("number", "a number")
    if len(text) > _LONGEST_NUMBER:
        cursor.fail("a number is too long", cursor.tokens[cursor.at - 1])
    return int(text) if text.isdigit() else float(text)


def literal(cursor: Cursor, depth: int = 0) -> Any:
    """An attribute's value: a sum of products of atoms; only numbers and dimensions take operators."""
    if depth > _DEEPEST:
        cursor.fail(f"a value is nested deeper than {_DEEPEST}")
    left = _product(cursor, depth)
    while cursor.next.text in ("+", "-") and cursor.next.kind == "sign":
        sign = cursor.take("sign", "a sign")
        right = _product(cursor, depth)
        _require_dims(cursor, left, right)
        left = left + right if sign == "+" else left - right
    return left


def _product(cursor: Cursor, depth: int) -> Any:
    left = _atom(cursor, depth)
    while cursor.next.text in ("*", "//", "%") and cursor.next.kind == "sign":
        sign = cursor.take("sign", "a sign")
        right = _atom(cursor, depth)
        _require_dims(cursor, left, right)
        left = left * right if sign == "*" else left // right if sign == "//" else left % right
    return left


def _require_dims(cursor: Cursor, *values: Any) -> None:
    if not all(isinstance(value, int | Sym) and not isinstance(value, bool) for value in values):
        cursor.fail("only whole numbers and dimensions take operators")
    if values[1] == 0 and cursor.tokens[cursor.at - 2].text in ("//", "%"):
        cursor.fail("a division by zero")


def _atom(cursor: Cursor, depth: int) -> Any:
    token = cursor.next
    if token.kind == "number":
        return _number(cursor)
    if token.kind == "string":
        return cursor.string()
    if token.kind == "dim":
        return Sym(cursor.take("dim", "a dimension")[1:-1])
    if cursor.accept("-"):
        value = _atom(cursor, depth + 1) if depth < _DEEPEST else cursor.fail("too many signs")
        if isinstance(value, bool) or not isinstance(value, int | float | Sym):
            cursor.fail("a number expected after '-'", token)
        return -value
    if cursor.accept("("):
        return _parenthesized(cursor, depth)
    word = cursor.take("word", "a value")
    if word in ("min", "max") and cursor.accept("("):
        pair = cursor.separated(")", lambda: literal(cursor, depth + 1))
        if len(pair) != 2:
            cursor.fail(f"{word} takes two dimensions", token)
        _require_dims(cursor, *pair)
        return (dim_min if word == "min" else dim_max)(*pair)
    if cursor.accept("["):
        return _type(cursor, word, token, depth)
    if word in OPAQUE_FORMS and cursor.accept("("):
        return opaque_type(cursor, word, token, depth)
    constants = {"None": None, "True": True, "False": False, "inf": float("inf"), "nan": float("nan")}
    return constants[word] if word in constants else Sym(word)


def opaque_type(cursor: Cursor, form: str, token: Token, depth: int = 0) -> OpaqueType:
    """`sequence(float32[any])`, `optional(…)`, `map(int64, float32[])`, `tensor(float32)`, behind the parenthesis."""
    if depth > _DEEPEST:
        cursor.fail(f"a type is nested deeper than {_DEEPEST}")
    key = None
    if form == "map":
        key = _element_type(cursor)
        cursor.expect(",")
    if form == "tensor":
        kind = OpaqueType(_element_type(cursor), ())
    else:
        inside = literal(cursor, depth + 1)
        if not isinstance(inside, TensorType):
            cursor.fail(f"a type expected inside of {form}", token)
        kind = OpaqueType.of(form, inside, key)
    cursor.expect(")")
    return kind


def _element_type(cursor: Cursor) -> DType:
    token = cursor.next
    try:
        return DType.of(cursor.take("word", "an element type"))
    except DTypeError as error:
        cursor.fail(error.what, token, because=error.advice)


def _type(cursor: Cursor, word: str, token: Token, depth: int) -> TensorType:
    """`float32[N, 8]`, behind the bracket."""
    sizes = cursor.separated("]", lambda: literal(cursor, depth + 1))
    if any(isinstance(size, bool) or not isinstance(size, int | Sym) for size in sizes):
        cursor.fail("sizes expected", token)
    try:
        return TensorType(DType.of(word), tuple(sizes))
    except DTypeError as error:
        cursor.fail(error.what, token, because=error.advice)


def _parenthesized(cursor: Cursor, depth: int) -> Any:
    """A tuple, or one expression in parentheses if there is no comma."""
    items: list[Any] = []
    comma = False
    while not cursor.accept(")"):
        if items and not comma:
            cursor.fail(f"',' or ')' expected, not {cursor.next.text}")
        items.append(literal(cursor, depth + 1))
        comma = cursor.accept(",")
    return items[0] if len(items) == 1 and not comma else tuple(items)
