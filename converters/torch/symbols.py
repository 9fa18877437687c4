"""Symbolic sizes of an exported program: sympy's text to `Dim`, and readable names for `s0`, `s77` …

torch writes a size as `srepr` of a sympy expression, `Mul(Integer(2), Symbol('s77', positive=True, integer=True))`
(earlier versions as `2*s77`). Nothing is evaluated: a small parser knows the functions below and refuses the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce

from isomorph.errors import MalformedError, ShapeError, UsageError
from isomorph.ir import Dim, DimRange, DType, Shape, Sym
from isomorph.ir.shapes import ceil_div, decide, dim_max, dim_min, elements, format_shape, parse_dim, substitute

__all__ = ["Inexpressible", "Symbols", "name_symbols", "unify"]


class Inexpressible(Exception):
    """An expression that a `Dim` cannot hold; the text is the reason."""


class Symbols:
    """Reads the expressions of one program; `names` maps its symbols to what they are called in the model, `ranges` has
    the torch symbols' ranges, by which a maximum or minimum can be decided.
    """

    def __init__(self, names: Mapping[str, Dim] | None = None, ranges: Mapping[str, DimRange] | None = None) -> None:
        self._names = dict(names or {})
        self._ranges = dict(ranges or {})
        self._known: dict[str, Dim] = {}

    def dim(self, text: str) -> Dim:
        """The expression as a Dim. Raises Inexpressible for what no Dim can hold, MalformedError for no expression."""
        if text not in self._known:
            self._known[text] = self._rename(_parse(text))
        return self._known[text]

    def _rename(self, dim: Dim) -> Dim:
        return substitute(decide(dim, self._ranges), self._names)


def _parse(text: str) -> Dim:
    if not re.match(r"\s*[A-Za-z]+\(", text):
        try:
            return parse_dim(text)
        except ShapeError as error:
            raise Inexpressible(f"the size {text!r}") from error
    tokens = _TOKEN.findall(text)
    if sum(map(len, tokens)) != len(re.sub(r"\s", "", text)):
        raise MalformedError(f"not an expression: {text[:80]!r}")
    parser = _Parser(tokens, text)
    try:
        dim = parser.expression(0)
    except IndexError:
        raise MalformedError(f"an expression ends too early: {text[:80]!r}") from None
    if parser.at != len(tokens):
        raise MalformedError(f"not one expression: {text[:80]!r}")
    return dim


_TOKEN = re.compile(r"'[^']*'|[A-Za-z_]\w*|-?\d+|[(),=]")
_DEEPEST = 64
_MOST_TERMS = 256


class _Parser:
    """Recursive descent over `Name(argument, …, keyword=value)`."""

    def __init__(self, tokens: list[str], text: str) -> None:
        self.tokens = tokens
        self.text = text
        self.at = 0

    def take(self, wanted: str | None = None) -> str:
        token = self.tokens[self.at]
        if wanted is not None and token != wanted:
            raise MalformedError(
                f"{wanted!r} expected in the expression {self.text[:80]!r}", because=f"found {token!r}"
            )
        self.at += 1
        return token

    def expression(self, depth: int) -> Dim:
        if depth > _DEEPEST:
            raise MalformedError(f"an expression is nested deeper than {_DEEPEST}: {self.text[:80]!r}")
        name = self.take()
        if re.fullmatch(r"-?\d+", name):
            return int(name)
        self.take("(")
        if name in ("Symbol", "Integer"):
            return self._leaf(name)
        function = _FUNCTIONS.get(name)
        if function is None:
            raise Inexpressible(f"the function {name} in a size")
        arguments = []
        while self.tokens[self.at] != ")":
            arguments.append(self.expression(depth + 1))
            if self.tokens[self.at] == ",":
                self.take()
        self.take(")")
        try:
            return _bounded(function(arguments), self.text)
        except (ValueError, TypeError, IndexError) as error:
            raise MalformedError(f"wrong arguments in the expression {self.text[:80]!r}") from error

    def _leaf(self, kind: str) -> Dim:
        value = self.take()
        while self.take() != ")":
            pass
        if kind == "Integer":
            return int(value)
        if not re.fullmatch(r"'[A-Za-z_]\w*'", value):
            raise MalformedError(f"not a symbol: {value!r}")
        return Sym(value[1:-1])


def _two(function: Callable[[Dim, Dim], Dim]) -> Callable[[Sequence[Dim]], Dim]:
    def call(arguments: Sequence[Dim]) -> Dim:
        left, right = arguments
        return function(left, right)

    return call


def _power(base: Dim, exponent: Dim) -> Dim:
    if not isinstance(exponent, int) or not 0 <= exponent <= 16:
        raise Inexpressible(f"the power {exponent} in a size")
    result: Dim = 1
    for _ in range(exponent):
        result = _bounded(result * base, "a power")
    return result


def _bounded(dim: Dim, text: str) -> Dim:
    """The dimension, unless it has so many terms that products of such would exhaust the memory."""
    if isinstance(dim, Sym) and len(dim.terms) > _MOST_TERMS:
        raise MalformedError(f"an expression has more than {_MOST_TERMS} terms: {text[:80]!r}")
    return dim


def _round_up(left: Dim, right: Dim) -> Dim:
    if not isinstance(right, int) or right <= 0:
        raise Inexpressible(f"a division by {right} in a size")
    return ceil_div(left, right)


_FUNCTIONS: dict[str, Callable[[Sequence[Dim]], Dim]] = {
    "Add": lambda arguments: sum(arguments, start=0),
    "Mul": elements,
    "Pow": _two(_power),
    "FloorDiv": _two(lambda left, right: left // right),
    "CleanDiv": _two(lambda left, right: left // right),
    "CeilDiv": _two(_round_up),
    "Mod": _two(lambda left, right: left % right),
    "PythonMod": _two(lambda left, right: left % right),
    "Max": lambda arguments: reduce(dim_max, arguments[1:], arguments[0]),
    "Min": lambda arguments: reduce(dim_min, arguments[1:], arguments[0]),
}


def name_symbols(
    inputs: Iterable[tuple[str, Shape]], declared: Mapping[str, str], ranges: Mapping[str, DimRange]
) -> dict[str, str]:
    """A name for each symbol of the inputs' shapes and of `ranges`.

    `declared` has the names that the user gave (torch.export.Dim), where they are known. Else: "N" for axis 0 of an
    input, "H" and "W" for the last axes of an image of rank 4, `<input>_d<axis>` for the others; what is taken gets
    that last form.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()

    def give(symbol: str, *candidates: str) -> None:
        names[symbol] = next(name for name in candidates if name not in taken)
        taken.add(names[symbol])

    shapes = list(inputs)
    for _, shape in shapes:
        for symbol in (dim.line[0] for dim in shape if isinstance(dim, Sym) and dim.line is not None):
            wanted = declared.get(symbol)
            if wanted and symbol not in names and wanted not in taken and wanted.isidentifier():
                give(symbol, wanted)
    for title, shape in shapes:
        for axis, dim in enumerate(shape):
            if isinstance(dim, Sym) and dim.name and dim.name not in names:
                usual = "N" if axis == 0 else "HW"[axis - 2] if len(shape) == 4 and axis >= 2 else f"{title}_d{axis}"
                give(dim.name, usual, f"{title}_d{axis}", f"{title}_{dim.name}")
    for symbol in ranges:
        if symbol not in names:
            give(symbol, symbol, f"dim_{symbol}")
    return names


def unify(
    title: str,
    shape: Shape,
    dtype: DType,
    given: tuple[Shape, DType | None],
    *,
    bindings: dict[str, Dim],
    ranges: Mapping[str, DimRange],
) -> None:
    """Bind dimensions of an input's shape to what the user asked for. Raises UsageError where they contradict."""
    wanted, kind = given
    if kind is not None and kind is not dtype:
        raise UsageError(f"the input {title} has the element type {dtype}, not {kind}", advice="leave the type out")
    if len(wanted) != len(shape):
        raise UsageError(f"the input {title} has the shape {format_shape(shape)}, not {format_shape(wanted)}")
    for axis, (dim, value) in enumerate(zip(shape, wanted, strict=True)):
        if isinstance(dim, Sym) and dim.name is not None and dim.name not in bindings:
            _check_range(title, axis, dim.name, value, ranges)
            bindings[dim.name] = value
        elif substitute(dim, bindings) != value:
            raise UsageError(
                f"the input {title} cannot have the size {value} at axis {axis}",
                because=f"it is {substitute(dim, bindings)}: {format_shape(shape)}",
                advice="export the program with `dynamic_shapes` where sizes vary" if isinstance(dim, int) else None,
            )


def _check_range(title: str, axis: int, name: str, value: Dim, ranges: Mapping[str, DimRange]) -> None:
    span = ranges.get(name)
    if span is None or not isinstance(value, int):
        return
    if value < span.min or (span.max is not None and value > span.max):
        upper = "" if span.max is None else f" to {span.max}"
        raise UsageError(
            f"the input {title} cannot have the size {value} at axis {axis}",
            because=f"the program was exported for {name} from {span.min}{upper}",
        )
