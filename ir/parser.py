"""Reads the text form of a model (see text.py): a recursive-descent parser, one statement a line.

Nothing is executed. Every error is a MalformedError that names the line and the column.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from isomorph.errors import DTypeError, GraphError
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Graph, Model, Node, Region, State, Value
from isomorph.ir.layout import Layout
from isomorph.ir.lexer import OPAQUE_FORMS, Cursor, Token, literal, opaque_type
from isomorph.ir.op import OPS, Op, TensorType
from isomorph.ir.origin import Origin, Scope, ScopeEntry
from isomorph.ir.params import Parameter
from isomorph.ir.shapes import DimRange, Shape, Sym
from isomorph.ir.tensors import ArrayTensor, DerivedTensor, TensorSource
from isomorph.ir.verify import verify

__all__ = ["parse_model"]


def parse_model(text: str) -> Model:
    """The model that `print_model` printed. Parameters without printed data are zeros of the right type and shape.

    Raises MalformedError for text that is no model, GraphError for a model that `verify` refuses.
    """
    reader = _Reader()
    cursor = Cursor("", 1)
    for number, line in enumerate(text.split("\n"), start=1):
        cursor = Cursor(line, number)
        if not cursor.done:
            reader.statement(cursor)
            cursor.expect_end()
    if reader.open:
        cursor.fail("'}' expected before the end of the text")
    verify(reader.model)
    return reader.model


class _Reader:
    """Builds the model, statement by statement."""

    def __init__(self) -> None:
        self.model = Model(Graph(""))
        self.graph = self.model.graph
        self.values: dict[str, Value] = {}
        self.shared: dict[int, Parameter] = {}
        self.open: list[tuple[Node, Graph, dict[str, Value]]] = []
        self.scopes: dict[str, Scope] = {"": Scope()}

    def statement(self, cursor: Cursor) -> None:
        if cursor.accept("}"):
            self._close(cursor)
            return
        if cursor.next.kind == "value":
            self._node(cursor)
            return
        keyword = cursor.take("word", "a statement")
        if keyword in ("weight", "buffer", "constant"):
            self._parameter(cursor, keyword)
            return
        handler = getattr(self, f"_{keyword}", None) if keyword in _STATEMENTS else None
        if handler is None or (self.open and keyword not in ("region", "input", "output", "scope")):
            cursor.fail(
                f"unknown statement {keyword!r}", cursor.tokens[0], because=f"known are {', '.join(_STATEMENTS)}"
            )
        handler(cursor)

    def _model(self, cursor: Cursor) -> None:
        self.model.graph.name = cursor.name()

    def _source(self, cursor: Cursor) -> None:
        self.model.source = (cursor.string(), cursor.string())

    def _metadata(self, cursor: Cursor) -> None:
        key = cursor.string()
        cursor.expect("=")
        self.model.metadata[key] = cursor.string()

    def _dim(self, cursor: Cursor) -> None:
        name = (
            cursor.take("dim", "a dimension")[1:-1] if cursor.next.kind == "dim" else cursor.take("word", "a dimension")
        )
        cursor.expect(":")
        low = cursor.integer()
        cursor.expect("to")
        self.model.dims[name] = DimRange(low, None if cursor.accept("any") else cursor.integer())

    def _state(self, cursor: Cursor) -> None:
        name = cursor.name()
        cursor.expect("=")
        output, initial = cursor.name(), None
        if cursor.accept("initial"):
            kind = self._type(cursor)
            if not kind.is_static:
                cursor.fail(f"an initial value of symbolic shape: {kind}")
            cursor.expect("named")
            initial = Parameter(cursor.string(), _zeros(kind), False, "buffer")
        self.model.state[name] = State(output, initial)

    def _region(self, cursor: Cursor) -> None:
        """The next region of the node that is open."""
        if not self.open:
            cursor.fail("a region stands behind its node's '{'", cursor.tokens[0])
        region = Region(cursor.name())
        node = self.open[-1][0]
        node.regions = (*node.regions, region)
        self.graph, self.values = region, {}

    def _close(self, cursor: Cursor) -> None:
        if not self.open:
            cursor.fail("no '{' is open", cursor.tokens[0])
        _, self.graph, self.values = self.open.pop()

    def _scope(self, cursor: Cursor) -> None:
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

    def _known_scope(self, cursor: Cursor) -> Scope:
        token = cursor.next
        label = cursor.sigil("scope", "a scope")
        if label not in self.scopes:
            cursor.fail(f"the scope {token.text} is not declared", token)
        return self.scopes[label]

    def _value(self, cursor: Cursor) -> Value:
        """A new value with its type: `%x: float32[N, 8]`."""
        token = cursor.next
        name = cursor.sigil("value", "a value")
        if name in self.values:
            cursor.fail(f"{token.text} is defined twice", token)
        cursor.expect(":")
        value = Value(name, self._type(cursor))
        self.values[name] = value
        return value

    def _type(self, cursor: Cursor) -> TensorType:
        token = cursor.next
        for form in OPAQUE_FORMS:
            if cursor.accept(form):
                cursor.expect("(")
                return opaque_type(cursor, form, token)
        try:
            dtype = DType.of(cursor.take("word", "an element type"))
        except DTypeError as error:
            cursor.fail(error.what, token, because=error.advice)
        cursor.expect("[")
        shape = cursor.separated("]", lambda: self._size(cursor))
        return TensorType(dtype, tuple(shape))

    def _size(self, cursor: Cursor) -> int | Sym:
        token = cursor.next
        size = literal(cursor)
        if isinstance(size, bool) or not isinstance(size, int | Sym) or (isinstance(size, int) and size < 0):
            cursor.fail(f"a size expected, not {token.text}", token)
        return size

    def _known_value(self, cursor: Cursor) -> Value:
        token = cursor.next
        name = cursor.sigil("value", "a value")
        if name not in self.values:
            cursor.fail(f"{token.text} is read before it is defined", token)
        return self.values[name]

    def _input(self, cursor: Cursor) -> None:
        self.graph.inputs.append(self._value(cursor))

    def _output(self, cursor: Cursor) -> None:
        token = cursor.next
        name = cursor.name()
        if name in self.graph.outputs:
            cursor.fail(f"two outputs are named {name!r}", token)
        cursor.expect("=")
        self.graph.outputs[name] = self._known_value(cursor)

    def _parameter(self, cursor: Cursor, role: str) -> None:
        token = cursor.next
        value = self._value(cursor)
        if not value.type.is_static:
            cursor.fail(f"a parameter of symbolic shape: {value}", token)
        name = cursor.string() if cursor.accept("named") else value.name
        trainable = cursor.accept("trainable") or (role == "weight" and not cursor.accept("frozen"))
        number = cursor.integer() if cursor.accept("shared") else None
        data = _literal_data(cursor, value.type) if cursor.accept("=") else _zeros(value.type)
        value.parameter = Parameter(name, data, trainable, role)
        if number is not None:
            value.parameter = self.shared.setdefault(number, value.parameter)
        self.graph.parameters.append(value)

    def _node(self, cursor: Cursor) -> None:
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
        self.graph.nodes.append(node)
        if cursor.accept("{"):
            if len(self.open) >= _DEEPEST:
                cursor.fail(f"regions are nested deeper than {_DEEPEST}", token)
            self.open.append((node, self.graph, self.values))
            self.graph, self.values = Graph(""), {}  # until the first region begins

    def _application(self, cursor: Cursor) -> tuple[Op, tuple[Value | None, ...]]:
        """`Conv(%x, %w, strides=(1, 1))`."""
        token = cursor.next
        kind = OPS.get(cursor.take("word", "an op"))
        if kind is None:
            cursor.fail(f"unknown op {token.text}", token)
        known = {field.name: field for field in dataclasses.fields(kind)}
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


_DEEPEST = 64
_STATEMENTS = (
    "model", "source", "metadata", "dim", "input", "weight", "buffer", "constant", "scope", "output", "region", "state",
)  # fmt: skip


def _attribute(cursor: Cursor, declared: str) -> Any:
    """The value of an attribute; an enumeration is known by the type that the op declares for it."""
    if declared not in ("DType", "Layout"):
        return literal(cursor)
    token = cursor.next
    word = cursor.take("word", f"a {declared}")
    try:
        return DType(word) if declared == "DType" else Layout(word)
    except ValueError:
        cursor.fail(f"unknown {declared} {word!r}", token)


def _check_types(cursor: Cursor, token: Token, node: Node) -> None:
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


def _literal_data(cursor: Cursor, kind: TensorType) -> TensorSource:
    token = cursor.next
    cursor.expect("{")
    items = cursor.separated("}", lambda: literal(cursor))
    allowed = float | int if kind.dtype.is_float else int
    if len(items) != kind.size or not all(isinstance(item, allowed) for item in items):
        cursor.fail(f"{kind.size} elements expected for {kind}", token)
    exact = kind.dtype.numpy if kind.dtype.numpy.kind in "iub" else np.float64 if kind.dtype.is_float else np.int64
    try:
        return ArrayTensor(np.array(items, exact).astype(kind.dtype.numpy).reshape(kind.shape))
    except (OverflowError, ValueError, TypeError) as error:
        cursor.fail(f"these are no elements of {kind}", token, because=str(error))


def _origin(cursor: Cursor) -> Origin:
    framework, op = cursor.name(), cursor.string()
    kinds: dict[str, type] = {"name": str, "file": str, "line": int, "code": str, "passes": tuple}
    found: dict[str, Any] = {}
    while not cursor.done and cursor.next.text != "{":
        token = cursor.next
        key = cursor.take("word", "a part of an origin")
        cursor.expect("=")
        value = literal(cursor)
        if key not in kinds or not isinstance(value, kinds[key]):
            cursor.fail(f"no part of an origin: {key}", token)
        found[key] = value
    return Origin(framework, op, **found)
