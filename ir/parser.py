"""Reads the text form of a model (see text.py): a recursive-descent parser over the tokens of a line.

Nothing is executed. Every error is a MalformedError that names the line and the column.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from isomorph.errors import DTypeError, GraphError, MalformedError
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Graph, Model, Node, Value
from isomorph.ir.layout import Layout
from isomorph.ir.op import OPS, Op, TensorType
from isomorph.ir.origin import Origin, Scope, ScopeEntry
from isomorph.ir.params import Parameter
from isomorph.ir.shapes import DimRange, Shape, Sym, dim_max, dim_min
from isomorph.ir.tensors import ArrayTensor, DerivedTensor, TensorSource
from isomorph.ir.verify import verify

__all__ = ["RESERVED", "parse_model"]

RESERVED = frozenset(("None", "True", "False", "inf", "nan", "min", "max"))
"""Words that mean something in an attribute: a dimension of this name stands in backquotes."""

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


def parse_model(text: str) -> Model:
    """The model that `print_model` printed. Parameters without printed data are zeros of the right type and shape.

    Raises MalformedError for text that is no model, GraphError for a model that `verify` refuses.
    """
    reader = _Reader()
    for number, line in enumerate(text.split("\n"), start=1):
        cursor = _Cursor(line, number)
        if not cursor.done:
            reader.statement(cursor)
            cursor.expect_end()
    verify(reader.model)
    return reader.model


@dataclasses.dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


class _Cursor:
    """The tokens of one line, and what to do where they are not what is expected."""

    def __init__(self, line: str, number: int) -> None:
        self.number = number
        self.end = _Token("end", "the end of the line", len(line) + 1)
        self.at = 0
        self.tokens = list(self._split(line))

    def _split(self, line: str) -> Iterator[_Token]:
        position = 0
        while position < len(line):
            match = _TOKEN.match(line, position)
            if match is None:
                self.fail(f"unexpected character {line[position]!r}", _Token("", "", position + 1))
            if match.lastgroup != "space":
                yield _Token(str(match.lastgroup), match.group(), position + 1)
            position = match.end()

    @property
    def done(self) -> bool:
        return self.at >= len(self.tokens)

    @property
    def next(self) -> _Token:
        return self.end if self.done else self.tokens[self.at]

    def fail(self, what: str, token: _Token | None = None, because: str | None = None) -> NoReturn:
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


def _number(cursor: _Cursor) -> int | float:
    text = cursor.take("number", "a number")
    if len(text) > _LONGEST_NUMBER:
        cursor.fail("a number is too long", cursor.tokens[cursor.at - 1])
    return int(text) if text.isdigit() else float(text)


def _literal(cursor: _Cursor, depth: int = 0) -> Any:
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


def _product(cursor: _Cursor, depth: int) -> Any:
    left = _atom(cursor, depth)
    while cursor.next.text in ("*", "//", "%") and cursor.next.kind == "sign":
        sign = cursor.take("sign", "a sign")
        right = _atom(cursor, depth)
        _require_dims(cursor, left, right)
        left = left * right if sign == "*" else left // right if sign == "//" else left % right
    return left


def _require_dims(cursor: _Cursor, *values: Any) -> None:
    if not all(isinstance(value, int | Sym) and not isinstance(value, bool) for value in values):
        cursor.fail("only whole numbers and dimensions take operators")
    if values[1] == 0 and cursor.tokens[cursor.at - 2].text in ("//", "%"):
        cursor.fail("a division by zero")


def _atom(cursor: _Cursor, depth: int) -> Any:
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
        pair = cursor.separated(")", lambda: _literal(cursor, depth + 1))
        if len(pair) != 2:
            cursor.fail(f"{word} takes two dimensions", token)
        _require_dims(cursor, *pair)
        return (dim_min if word == "min" else dim_max)(*pair)
    constants = {"None": None, "True": True, "False": False, "inf": float("inf"), "nan": float("nan")}
    return constants[word] if word in constants else Sym(word)


def _parenthesized(cursor: _Cursor, depth: int) -> Any:
    """A tuple, or one expression in parentheses if there is no comma."""
    items: list[Any] = []
    comma = False
    while not cursor.accept(")"):
        if items and not comma:
            cursor.fail(f"',' or ')' expected, not {cursor.next.text}")
        items.append(_literal(cursor, depth + 1))
        comma = cursor.accept(",")
    return items[0] if len(items) == 1 and not comma else tuple(items)


class _Reader:
    """Builds the model, statement by statement."""

    def __init__(self) -> None:
        self.model = Model(Graph(""))
        self.values: dict[str, Value] = {}
        self.scopes: dict[str, Scope] = {"": Scope()}

    def statement(self, cursor: _Cursor) -> None:
        if cursor.next.kind == "value":
            self._node(cursor)
            return
        keyword = cursor.take("word", "a statement")
        if keyword in ("weight", "buffer", "constant"):
            self._parameter(cursor, keyword)
            return
        handler = getattr(self, f"_{keyword}", None) if keyword in _STATEMENTS else None
        if handler is None:
            cursor.fail(
                f"unknown statement {keyword!r}", cursor.tokens[0], because=f"known are {', '.join(_STATEMENTS)}"
            )
        handler(cursor)

    def _model(self, cursor: _Cursor) -> None:
        self.model.graph.name = cursor.name()

    def _source(self, cursor: _Cursor) -> None:
        self.model.source = (cursor.string(), cursor.string())

    def _metadata(self, cursor: _Cursor) -> None:
        key = cursor.string()
        cursor.expect("=")
        self.model.metadata[key] = cursor.string()

    def _dim(self, cursor: _Cursor) -> None:
        name = (
            cursor.take("dim", "a dimension")[1:-1] if cursor.next.kind == "dim" else cursor.take("word", "a dimension")
        )
        cursor.expect(":")
        low = cursor.integer()
        cursor.expect("to")
        self.model.dims[name] = DimRange(low, None if cursor.accept("any") else cursor.integer())

    def _scope(self, cursor: _Cursor) -> None:
        token = cursor.next
        label = cursor.sigil("scope", "a scope")
        path = (
            cursor.unquoted(token.text[1 : token.text.rindex('"') + 1])
            if '"' in token.text
            else label.partition("~")[0]
        )
        cursor.expect(":")
        cls = cursor.name()
        call = cursor.integer() if cursor.accept("call") else 0
        parent = self._known_scope(cursor) if cursor.accept("in") else Scope()
        if label in self.scopes:
            cursor.fail(f"the scope {token.text} is declared twice", token)
        self.scopes[label] = Scope((*parent.entries, ScopeEntry(path, cls, call)))

    def _known_scope(self, cursor: _Cursor) -> Scope:
        token = cursor.next
        label = cursor.sigil("scope", "a scope")
        if label not in self.scopes:
            cursor.fail(f"the scope {token.text} is not declared", token)
        return self.scopes[label]

    def _value(self, cursor: _Cursor) -> Value:
        """A new value with its type: `%x: float32[N, 8]`."""
        token = cursor.next
        name = cursor.sigil("value", "a value")
        if name in self.values:
            cursor.fail(f"{token.text} is defined twice", token)
        cursor.expect(":")
        value = Value(name, self._type(cursor))
        self.values[name] = value
        return value

    def _type(self, cursor: _Cursor) -> TensorType:
        token = cursor.next
        try:
            dtype = DType.of(cursor.take("word", "an element type"))
        except DTypeError as error:
            cursor.fail(error.what, token, because=error.advice)
        cursor.expect("[")
        shape = cursor.separated("]", lambda: self._size(cursor))
        return TensorType(dtype, tuple(shape))

    def _size(self, cursor: _Cursor) -> int | Sym:
        token = cursor.next
        size = _literal(cursor)
        if isinstance(size, bool) or not isinstance(size, int | Sym) or (isinstance(size, int) and size < 0):
            cursor.fail(f"a size expected, not {token.text}", token)
        return size

    def _known_value(self, cursor: _Cursor) -> Value:
        token = cursor.next
        name = cursor.sigil("value", "a value")
        if name not in self.values:
            cursor.fail(f"{token.text} is read before it is defined", token)
        return self.values[name]

    def _input(self, cursor: _Cursor) -> None:
        self.model.graph.inputs.append(self._value(cursor))

    def _output(self, cursor: _Cursor) -> None:
        token = cursor.next
        name = cursor.name()
        if name in self.model.graph.outputs:
            cursor.fail(f"two outputs are named {name!r}", token)
        cursor.expect("=")
        self.model.graph.outputs[name] = self._known_value(cursor)

    def _parameter(self, cursor: _Cursor, role: str) -> None:
        token = cursor.next
        value = self._value(cursor)
        if not value.type.is_static:
            cursor.fail(f"a parameter of symbolic shape: {value}", token)
        name = cursor.string() if cursor.accept("named") else value.name
        trainable = cursor.accept("trainable") or (role == "weight" and not cursor.accept("frozen"))
        data = _literal_data(cursor, value.type) if cursor.accept("=") else _zeros(value.type)
        value.parameter = Parameter(name, data, trainable, role)
        self.model.graph.parameters.append(value)

    def _node(self, cursor: _Cursor) -> None:
        outputs = [self._value(cursor)]
        while cursor.accept(","):
            outputs.append(self._value(cursor))
        cursor.expect("=")
        token = cursor.next
        op, operands = self._application(cursor)
        scope = self._known_scope(cursor) if cursor.next.kind == "scope" else Scope()
        name = cursor.name() if cursor.accept("as") else outputs[0].name
        origin = _origin(cursor) if cursor.accept("!") else Origin("text", op.name, name)
        if any(operand in outputs for operand in operands):
            cursor.fail(f"`{op.name}` reads its own output", token)
        node = Node(name, op, operands, tuple(outputs), scope, origin)
        _check_types(cursor, token, node)
        for value in outputs:
            value.producer = node
        self.model.graph.nodes.append(node)

    def _application(self, cursor: _Cursor) -> tuple[Op, tuple[Value | None, ...]]:
        """`Conv(%x, %w, strides=(1, 1))`."""
        token = cursor.next
        kind = OPS.get(cursor.take("word", "an op"))
        if kind is None:
            cursor.fail(f"unknown op {token.text}", token)
        known = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        operands: list[Value | None] = []
        attributes: dict[str, Any] = {}
        cursor.expect("(")

        def item() -> None:
            if cursor.next.kind == "value" or cursor.next.text == "None":
                operands.append(None if cursor.accept("None") else self._known_value(cursor))
                return
            place = cursor.next
            name = cursor.take("word", "an operand or attribute")
            if name not in known or name in attributes:
                cursor.fail(f"{kind.__name__} has no attribute {name!r}, or has it twice", place)
            cursor.expect("=")
            attributes[name] = _attribute(cursor, str(known[name].type))

        cursor.separated(")", item)
        missing = [
            field.name
            for field in known.values()
            if field.default is dataclasses.MISSING and field.name not in attributes
        ]
        if missing:
            cursor.fail(f"{kind.__name__} lacks the attribute {', '.join(missing)}", token)
        return kind(**attributes), tuple(operands)


_STATEMENTS = ("model", "source", "metadata", "dim", "input", "weight", "buffer", "constant", "scope", "output")


def _attribute(cursor: _Cursor, declared: str) -> Any:
    """The value of an attribute; an enumeration is known by the type that the op declares for it."""
    if declared not in ("DType", "Layout"):
        return _literal(cursor)
    token = cursor.next
    word = cursor.take("word", f"a {declared}")
    try:
        return DType(word) if declared == "DType" else Layout(word)
    except ValueError:
        cursor.fail(f"unknown {declared} {word!r}", token)


def _check_types(cursor: _Cursor, token: _Token, node: Node) -> None:
    types = [None if value is None else value.type for value in node.inputs]
    try:
        inferred = node.op.infer(*types)
    except GraphError as error:
        cursor.fail(error.what, token, because=error.because)
    except (TypeError, ValueError, IndexError, AttributeError) as error:  # attributes or operands of the wrong kind
        cursor.fail(f"the operands or attributes of {node.op.name} are of the wrong kind", token, because=str(error))
    if len(inferred) != len(node.outputs):
        cursor.fail(f"{node.op.name} has {len(inferred)} outputs, {len(node.outputs)} are named", token)


def _zeros(kind: TensorType) -> TensorSource:
    shape: Shape = kind.shape
    sizes = tuple(int(size) for size in shape)  # type: ignore[arg-type]
    return DerivedTensor(kind.dtype, sizes, (), lambda: np.broadcast_to(np.zeros((), kind.dtype.numpy), sizes))


def _literal_data(cursor: _Cursor, kind: TensorType) -> TensorSource:
    token = cursor.next
    cursor.expect("{")
    items = cursor.separated("}", lambda: _literal(cursor))
    allowed = float | int if kind.dtype.is_float else int
    if len(items) != kind.size or not all(isinstance(item, allowed) for item in items):
        cursor.fail(f"{kind.size} elements expected for {kind}", token)
    exact = kind.dtype.numpy if kind.dtype.numpy.kind in "iub" else np.float64 if kind.dtype.is_float else np.int64
    try:
        return ArrayTensor(np.array(items, exact).astype(kind.dtype.numpy).reshape(kind.shape))
    except (OverflowError, ValueError, TypeError) as error:
        cursor.fail(f"these are no elements of {kind}", token, because=str(error))


def _origin(cursor: _Cursor) -> Origin:
    framework, op = cursor.name(), cursor.string()
    kinds: dict[str, type] = {"name": str, "file": str, "line": int, "code": str, "passes": tuple}
    found: dict[str, Any] = {}
    while not cursor.done:
        token = cursor.next
        key = cursor.take("word", "a part of an origin")
        cursor.expect("=")
        value = _literal(cursor)
        if key not in kinds or not isinstance(value, kinds[key]):
            cursor.fail(f"no part of an origin: {key}", token)
        found[key] = value
    return Origin(framework, op, **found)
