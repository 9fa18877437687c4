"""Symbolic shapes: a dimension is an int or a `Sym`, an integer expression over named dimensions.

A Sym is kept in a normal form, a polynomial with integer coefficients over *atoms*, so that equal sums and products
compare equal. An atom is a named dimension (`N`) or an opaque call (`(H - 1) // 2`, `max(H, 7)`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, Union

from isomorph.errors import ShapeError

__all__ = [
    "Dim", "DimRange", "Shape", "Sym", "as_dim", "bounds", "ceil_div", "decide", "dim_max", "dim_min", "elements",
    "format_shape",
    "names_in", "parse_dim", "provably_different", "substitute",
]  # fmt: skip

Dim: TypeAlias = Union[int, "Sym"]
Shape: TypeAlias = tuple[Dim, ...]
Monomial: TypeAlias = tuple["Atom", ...]


@dataclass(frozen=True, slots=True)
class DimRange:
    """The inclusive range of a named dimension; `max` None means unbounded."""

    min: int = 1
    max: int | None = None


@dataclass(frozen=True, slots=True)
class Atom:
    """A named dimension (`op` is "dim") or an opaque call of two dimensions (`//`, `%`, `min`, `max`)."""

    op: str
    name: str = ""
    args: tuple[Dim, ...] = ()

    def sort_key(self) -> str:
        return str(self)

    def __str__(self) -> str:
        if self.op == "dim":
            return self.name
        left, right = (str(arg) for arg in self.args)
        if self.op in ("min", "max"):
            return f"{self.op}({left}, {right})"
        left, right = (text if re.fullmatch(r"\w+", text) else f"({text})" for text in (left, right))
        return f"({left} {self.op} {right})"


class Sym:
    """An integer expression over named dimensions. Immutable, hashable; `==` compares normal forms.

    Sym("N") is a named dimension; `+ - * // %` with ints and Syms give a Sym, or an int where nothing symbolic is left.
    """

    __slots__ = ("_hash", "_text", "terms")
    terms: tuple[tuple[Monomial, int], ...]

    def __init__(self, name: str) -> None:
        self._set({(Atom("dim", name),): 1})

    def _set(self, terms: Mapping[Monomial, int]) -> None:
        listed = list(terms.items())
        if len(listed) > 1:
            listed.sort(key=lambda term: (-len(term[0]), [str(atom) for atom in term[0]]))
        self.terms = tuple(listed)
        self._hash = hash(self.terms)
        self._text = ""

    @classmethod
    def _make(cls, terms: Mapping[Monomial, int]) -> Dim:
        kept = {monomial: factor for monomial, factor in terms.items() if factor}
        if not kept:
            return 0
        if set(kept) == {()}:
            return kept[()]
        made = cls.__new__(cls)
        made._set(kept)
        return made

    @property
    def line(self) -> tuple[str, int, int] | None:
        """(name, factor, offset) of the dimension `factor * name + offset` with factor > 0; None for every other."""
        offset = sum(factor for monomial, factor in self.terms if not monomial)
        rest = [(monomial, factor) for monomial, factor in self.terms if monomial]
        if len(rest) != 1 or len(rest[0][0]) != 1 or rest[0][0][0].op != "dim" or rest[0][1] <= 0:
            return None
        return rest[0][0][0].name, rest[0][1], offset

    @property
    def name(self) -> str | None:
        """The dimension's name if this is one named dimension and nothing else."""
        if len(self.terms) == 1:
            ((monomial, factor),) = self.terms
            if factor == 1 and len(monomial) == 1 and monomial[0].op == "dim":
                return monomial[0].name
        return None

    def names(self) -> frozenset[str]:
        """Names of all dimensions in the expression."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                if atom.op == "dim":
                    found.add(atom.name)
                for arg in atom.args:
                    if isinstance(arg, Sym):
                        found |= arg.names()
        return frozenset(found)

    def substitute(self, bindings: Mapping[str, Dim]) -> Dim:
        """The expression with named dimensions replaced."""
        total: Dim = 0
        for monomial, factor in self.terms:
            product: Dim = factor
            for atom in monomial:
                product = product * _substitute_atom(atom, bindings)
            total = total + product
        return total

    def __add__(self, other: Dim) -> Dim:
        terms = dict(self.terms)
        for monomial, factor in _terms(other):
            terms[monomial] = terms.get(monomial, 0) + factor
        return Sym._make(terms)

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + -other

    def __rsub__(self, other: Dim) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        if other == 1:
            return self
        terms: dict[Monomial, int] = {}
        for left, left_factor in self.terms:
            for right, right_factor in _terms(other):
                monomial = tuple(sorted(left + right, key=Atom.sort_key))
                terms[monomial] = terms.get(monomial, 0) + left_factor * right_factor
        return Sym._make(terms)

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return _divide(self, other)

    def __rfloordiv__(self, other: int) -> Dim:
        return _divide(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return _modulo(self, other)

    def __rmod__(self, other: int) -> Dim:
        return _modulo(other, self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sym) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        self._text = self._text or self._spelled()
        return self._text

    def _spelled(self) -> str:
        parts = []
        for monomial, factor in self.terms:
            body = "*".join(str(atom) for atom in monomial)
            if not body:
                parts.append(str(factor))
            elif factor == 1:
                parts.append(body)
            elif factor == -1:
                parts.append(f"-{body}")
            else:
                parts.append(f"{factor}*{body}")
        return " + ".join(parts).replace("+ -", "- ")

    def __repr__(self) -> str:
        return f"Sym({str(self)!r})"


def _terms(dim: Dim) -> Iterable[tuple[Monomial, int]]:
    return dim.terms if isinstance(dim, Sym) else (((), dim),)


def _call(op: str, left: Dim, right: Dim) -> Dim:
    return Sym._make({(Atom(op, args=(left, right)),): 1})


def _substitute_atom(atom: Atom, bindings: Mapping[str, Dim]) -> Dim:
    if atom.op == "dim":
        return bindings.get(atom.name, Sym._make({(atom,): 1}))
    left, right = (substitute(arg, bindings) for arg in atom.args)
    return _OPERATIONS[atom.op](left, right)


def _exact_quotient(left: Dim, right: Dim) -> Dim | None:
    """left / right where the division is exact for every value of the dimensions, else None."""
    divisor = list(_terms(right))
    if len(divisor) != 1:
        return _polynomial_quotient(left, right)
    ((monomial, factor),) = divisor
    quotient: dict[Monomial, int] = {}
    for term, coefficient in _terms(left):
        rest = list(term)
        for atom in monomial:
            if atom not in rest:
                return None
            rest.remove(atom)
        if coefficient % factor:
            return None
        quotient[tuple(rest)] = coefficient // factor
    return Sym._make(quotient)


def _polynomial_quotient(left: Dim, right: Dim) -> Dim | None:
    """q with left == q * right as polynomials, by long division; None if there is a remainder."""
    atoms = sorted({atom for term, _ in (*_terms(left), *_terms(right)) for atom in term}, key=_spelled)

    def degrees(item: tuple[Monomial, int]) -> tuple[int, ...]:
        return (len(item[0]), *(item[0].count(atom) for atom in atoms))

    leading = max(_terms(right), key=degrees)
    quotient: Dim = 0
    for _ in range(_LONGEST_DIVISION):
        if left == 0:
            return quotient
        step = _exact_quotient(Sym._make(dict([max(_terms(left), key=degrees)])), Sym._make(dict([leading])))
        if step is None:
            return None
        quotient, left = quotient + step, left - step * right
    return None


def _spelled(atom: Atom) -> str:
    return str(Sym._make({(atom,): 1}))


_LONGEST_DIVISION = 64
"""Steps after which a division of polynomials is given up."""


def _divide(left: Dim, right: Dim) -> Dim:
    if right == 0:
        raise ShapeError(f"division of the dimension {left} by zero")
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    left, right = _without_common_factors(left, right)
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    exact = _exact_quotient(left, right)
    if exact is not None:
        return exact
    number = _divisor_of_multiple(left, right)
    if number is not None:
        return number
    if isinstance(right, int) and right > 0 and isinstance(left, Sym):
        # (q * right + rest) // right = q + rest // right, for every integer rest
        whole = {term: factor // right for term, factor in left.terms}
        rest = Sym._make({term: factor % right for term, factor in left.terms})
        quotient = Sym._make(whole)
        if quotient != 0:
            return quotient + _divide(rest, right)
        (only, factor), *more = left.terms
        if not more and factor == 1 and len(only) == 1 and only[0].op == "//":
            inner, divisor = only[0].args
            if isinstance(divisor, int) and divisor > 0:
                return _divide(inner, divisor * right)
    return _call("//", left, right)


def _without_common_factors(left: Dim, right: Dim) -> tuple[Dim, Dim]:
    """Dividend and divisor without the factors of all their terms: numbers and named dimensions."""
    terms = [*_terms(left), *_terms(right)]
    factor = math.gcd(*(coefficient for _, coefficient in terms))
    shared = [atom for atom in terms[0][0] if atom.op == "dim"] if terms else []
    for monomial, _ in terms:
        rest = list(monomial)
        shared = [atom for atom in shared if atom in rest and not rest.remove(atom)]  # type: ignore[func-returns-value]
    if factor <= 1 and not shared:
        return left, right
    divisor = Sym._make({tuple(shared): factor})
    reduced = _exact_quotient(left, divisor), _exact_quotient(right, divisor)
    return (left, right) if reduced[0] is None or reduced[1] is None else (reduced[0], reduced[1])


def _divisor_of_multiple(left: Dim, right: Dim) -> int | None:
    """d for x // (x // d), where x is a multiple of d."""
    if isinstance(right, Sym) and len(right.terms) == 1:
        ((monomial, factor),) = right.terms
        if factor == 1 and len(monomial) == 1 and monomial[0].op == "//":
            inner, number = monomial[0].args
            if inner == left and isinstance(number, int) and number > 0 and _modulo(left, number) == 0:
                return number
    return None


def _modulo(left: Dim, right: Dim) -> Dim:
    if right == 0:
        raise ShapeError(f"remainder of the dimension {left} by zero")
    if isinstance(left, int) and isinstance(right, int):
        return left % right
    if _exact_quotient(left, right) is not None:
        return 0
    if isinstance(right, int) and right > 0 and isinstance(left, Sym):
        reduced: Dim = 0
        for term, factor in left.terms:
            inner = term[0].args[0] if len(term) == 1 and term[0].op == "%" and term[0].args[1] == right else None
            product = Sym._make({term: 1}) if inner is None else inner  # (x % m) is as good as x
            reduced = reduced + product * (factor % right)
        if reduced != left:
            return _modulo(reduced, right)
    return _call("%", left, right)


def dim_max(left: Dim, right: Dim) -> Dim:
    """max of two dimensions."""
    if isinstance(left, int) and isinstance(right, int):
        return max(left, right)
    return left if left == right else _call("max", *_in_order(left, right))


def dim_min(left: Dim, right: Dim) -> Dim:
    """min of two dimensions."""
    if isinstance(left, int) and isinstance(right, int):
        return min(left, right)
    return left if left == right else _call("min", *_in_order(left, right))


def _in_order(left: Dim, right: Dim) -> tuple[Dim, Dim]:
    """Operands whose order means nothing: an int last, else by their text."""
    first, second = sorted((left, right), key=lambda dim: (isinstance(dim, int), str(dim)))
    return first, second


def ceil_div(left: Dim, right: int) -> Dim:
    """ceil(left / right) for a positive right."""
    return -((-left) // right) if isinstance(left, int) else (left + (right - 1)) // right


_OPERATIONS: dict[str, Callable[[Dim, Dim], Dim]] = {"//": _divide, "%": _modulo, "min": dim_min, "max": dim_max}


def substitute(dim: Dim, bindings: Mapping[str, Dim]) -> Dim:
    """`dim` with named dimensions replaced by ints or other expressions."""
    return dim.substitute(bindings) if isinstance(dim, Sym) else dim


def bounds(dim: Dim, ranges: Mapping[str, DimRange]) -> tuple[int | None, int | None]:
    """The least and the greatest value of a dimension by interval arithmetic; None where there is no bound."""
    if isinstance(dim, int):
        return dim, dim
    low: int | None = 0
    high: int | None = 0
    for monomial, factor in dim.terms:
        least, most = _product_bounds(monomial, ranges)
        if factor < 0:
            least, most = most, least
        low = None if low is None or least is None else low + factor * least
        high = None if high is None or most is None else high + factor * most
    return low, high


def _product_bounds(monomial: Monomial, ranges: Mapping[str, DimRange]) -> tuple[int | None, int | None]:
    """Bounds of a product; of several factors only where none is negative."""
    pairs = [_atom_bounds(atom, ranges) for atom in monomial]
    if len(pairs) == 1:
        return pairs[0]
    if any(least is None or least < 0 for least, _ in pairs):
        return None, None
    most = [upper for _, upper in pairs]
    greatest = None if None in most else math.prod(upper for upper in most if upper is not None)
    return math.prod(least or 0 for least, _ in pairs), greatest


def _atom_bounds(atom: Atom, ranges: Mapping[str, DimRange]) -> tuple[int | None, int | None]:
    if atom.op == "dim":
        span = ranges.get(atom.name)
        return (None, None) if span is None else (span.min, span.max)
    (low, high), (other_low, other_high) = (bounds(arg, ranges) for arg in atom.args)
    divisor = atom.args[1]
    if atom.op == "max":
        lows = [each for each in (low, other_low) if each is not None]
        return max(lows, default=None), None if high is None or other_high is None else max(high, other_high)
    if atom.op == "min":
        highs = [each for each in (high, other_high) if each is not None]
        return None if low is None or other_low is None else min(low, other_low), min(highs, default=None)
    if not isinstance(divisor, int) or divisor <= 0:
        return None, None
    if atom.op == "//":
        return None if low is None else low // divisor, None if high is None else high // divisor
    return 0, divisor - 1


def decide(dim: Dim, ranges: Mapping[str, DimRange]) -> Dim:
    """The dimension with each `max` and `min` that the ranges decide replaced by the one of its operands that it is."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for monomial, factor in dim.terms:
        product: Dim = factor
        for atom in monomial:
            product = product * _decided(atom, ranges)
        total = total + product
    return total


def _decided(atom: Atom, ranges: Mapping[str, DimRange]) -> Dim:
    if atom.op == "dim":
        return Sym._make({(atom,): 1})
    left, right = (decide(arg, ranges) for arg in atom.args)
    if atom.op in ("max", "min"):
        low, high = bounds(left - right, ranges)
        if low is not None and low >= 0:
            return left if atom.op == "max" else right
        if high is not None and high <= 0:
            return right if atom.op == "max" else left
    return _OPERATIONS[atom.op](left, right)


def provably_different(left: Dim, right: Dim) -> bool:
    """True only where no sizes of the named dimensions, all at least 1, make the two equal."""
    difference = left - right
    if isinstance(difference, int):
        return difference != 0
    factors = [factor for _, factor in difference.terms]
    if any(atom.op != "dim" for monomial, _ in difference.terms for atom in monomial):
        return False
    return all(factor > 0 for factor in factors) or all(factor < 0 for factor in factors)


def elements(shape: Iterable[Dim]) -> Dim:
    """The product of all dimensions (1 for a scalar)."""
    return math.prod(shape)


def format_shape(shape: Iterable[Dim]) -> str:
    """A shape in text form: `[N, 3, 224, 224]`."""
    return "[" + ", ".join(str(dim) for dim in shape) + "]"


_TOKEN = re.compile(r"\s*(?:(\d+)|([^\W\d][\w.:]*)|(//|[-+*/%(),]))")


def parse_dim(text: str) -> Dim:
    """Read an expression over names and ints: `+ - * // %`, min, max, floor-division also as `/`. Raises ShapeError."""
    tokens = []
    position = 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ShapeError(f"cannot read the dimension {text!r}", at=f"character {position}")
        tokens.append(match.group().strip())
        position = match.end()
    dim, rest = _parse_sum(tokens, 0, text, 0)
    if rest != len(tokens):
        raise ShapeError(f"cannot read the dimension {text!r}", because=f"unexpected {tokens[rest]!r}")
    return dim


_DEEPEST_EXPRESSION = 64


def _parse_sum(tokens: list[str], at: int, text: str, depth: int) -> tuple[Dim, int]:
    if depth > _DEEPEST_EXPRESSION:
        raise ShapeError(f"the dimension {text[:40]!r} is nested deeper than {_DEEPEST_EXPRESSION}")
    left, at = _parse_product(tokens, at, text, depth)
    while at < len(tokens) and tokens[at] in ("+", "-"):
        right, after = _parse_product(tokens, at + 1, text, depth)
        left = left + right if tokens[at] == "+" else left - right
        at = after
    return left, at


def _parse_product(tokens: list[str], at: int, text: str, depth: int) -> tuple[Dim, int]:
    left, at = _parse_atom(tokens, at, text, depth)
    while at < len(tokens) and tokens[at] in ("*", "//", "/", "%"):
        right, after = _parse_atom(tokens, at + 1, text, depth)
        operator = tokens[at]
        left = left * right if operator == "*" else _modulo(left, right) if operator == "%" else _divide(left, right)
        at = after
    return left, at


def _parse_atom(tokens: list[str], at: int, text: str, depth: int) -> tuple[Dim, int]:
    if at >= len(tokens):
        raise ShapeError(f"cannot read the dimension {text!r}", because="it ends too early")
    token = tokens[at]
    if token == "-":
        dim, at = _parse_atom(tokens, at + 1, text, depth + 1)
        return -dim, at
    if token == "(":
        dim, at = _parse_sum(tokens, at + 1, text, depth + 1)
        return dim, _expect(tokens, at, ")", text)
    if token.isdigit():
        return int(token), at + 1
    if token.lower() in ("min", "max", "floordiv", "mod") and at + 1 < len(tokens) and tokens[at + 1] == "(":
        left, at = _parse_sum(tokens, at + 2, text, depth + 1)
        right, at = _parse_sum(tokens, _expect(tokens, at, ",", text), text, depth + 1)
        name = {"floordiv": "//", "mod": "%"}.get(token.lower(), token.lower())
        return _OPERATIONS[name](left, right), _expect(tokens, at, ")", text)
    if re.fullmatch(r"[^\W\d][\w.:]*", token):
        return Sym(token), at + 1
    raise ShapeError(f"cannot read the dimension {text!r}", because=f"unexpected {token!r}")


def _expect(tokens: list[str], at: int, wanted: str, text: str) -> int:
    if at >= len(tokens) or tokens[at] != wanted:
        raise ShapeError(f"cannot read the dimension {text!r}", because=f"{wanted!r} expected")
    return at + 1


def as_dim(value: object) -> Dim:
    """An int, a Sym, or the text of one, as a Dim."""
    if isinstance(value, Sym):
        return value
    if isinstance(value, str):
        return parse_dim(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ShapeError(f"not a dimension: {value!r}")
    return value.__index__()  # type: ignore[no-any-return]


def names_in(values: Iterable[Any]) -> Iterator[str]:
    """Names of the dimensions in shapes, attributes and nested tuples of them, with repetitions."""
    for value in values:
        if isinstance(value, Sym):
            yield from value.names()
        elif isinstance(value, tuple):
            yield from names_in(value)
