"""What import rules read with: the node at hand, its operands as values, constants or symbolic sizes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto

from isomorph.converters.onnx.tensors import tensor_source
from isomorph.errors import MalformedError, ModelError, Unsupported, UnsupportedError
from isomorph.ir import Builder, Dim, DType, Op, Parameter, Region, Sym, TensorSource, TensorType, Value, ops
from isomorph.ir.evaluate import evaluate_op
from isomorph.ir.op import normalize_axis
from isomorph.ir.shapes import as_dim, names_in, parse_dim

__all__ = ["Attributes", "Body", "Graph", "OnnxNode", "parse_json", "parse_size"]

Sizes = npt.NDArray[np.object_]
"""An array of ints and Syms: the value of an integer tensor as far as it is known when reading."""
LARGEST_KNOWN = 4096
"""Integer constants of more elements than this are data, not sizes."""
_DEEPEST_FOLD = 64
_LONGEST_EXPRESSION = 100
"""Characters of a symbolic size; longer texts are taken as names."""


class Attributes(dict[str, Any]):
    """The attributes of a node as Python values: ints, floats, str, lists, TensorSource, GraphProto.

    It notes which ones a rule looks at: one that no rule looks at must not be ignored silently.
    """

    def __init__(self, proto: onnx.NodeProto, path: str) -> None:
        super().__init__({item.name: _attribute(item, path) for item in proto.attribute})
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.seen.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.seen.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.seen.add(name)
        return super().get(name, default)

    def ignored(self, kind: str, opset: int) -> list[str]:
        """Names of the attributes that nothing looked at and that say something else than their default."""
        unseen = [name for name in self if name not in self.seen]
        if not unseen:
            return []
        try:
            defaults = onnx.defs.get_schema(kind, opset).attributes
        except onnx.defs.SchemaError:
            return unseen
        return [
            name
            for name in unseen
            if name not in _HARMLESS
            and (name not in defaults or self[name] != _attribute(defaults[name].default_value, kind))
        ]


_HARMLESS = {"consumed_inputs", "momentum", "seed", "storage_order", "allowzero", "noop_with_empty_axes"}
"""Attributes that say nothing of an inference result, or nothing where a rule does not look at them."""


_LISTS = (
    AttributeProto.TENSORS,
    AttributeProto.GRAPHS,
    AttributeProto.TYPE_PROTOS,
    AttributeProto.SPARSE_TENSORS,
)


def _attribute(item: AttributeProto, path: str) -> Any:
    kind = item.type
    if kind == AttributeProto.INT:
        return item.i
    if kind == AttributeProto.FLOAT:
        return item.f
    if kind == AttributeProto.STRING:
        return item.s.decode("utf-8", "replace")
    if kind == AttributeProto.INTS:
        return list(item.ints)
    if kind == AttributeProto.FLOATS:
        return list(item.floats)
    if kind == AttributeProto.STRINGS:
        return [text.decode("utf-8", "replace") for text in item.strings]
    if kind == AttributeProto.TENSOR:
        return tensor_source(item.t, None)
    if kind == AttributeProto.GRAPH:
        return item.g
    if kind in (AttributeProto.TYPE_PROTO, AttributeProto.SPARSE_TENSOR):
        return item.tp if kind == AttributeProto.TYPE_PROTO else item.sparse_tensor
    if kind in _LISTS:
        return [*item.tensors, *item.graphs, *item.type_protos, *item.sparse_tensors]
    if kind == AttributeProto.UNDEFINED and not item.name:
        return None
    raise MalformedError(f"attribute {item.name!r} has the kind {kind}, which has no meaning here", at=path)


@dataclass(eq=False, slots=True)
class Graph:
    """The graph being built and what is known of each name: a value, a constant, sizes."""

    builder: Builder
    opsets: dict[str, int]
    values: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, Parameter] = field(default_factory=dict)
    sizes: dict[str, Sizes] = field(default_factory=dict)
    size_dtypes: dict[str, DType] = field(default_factory=dict)
    perms: dict[str, tuple[int, ...]] = field(default_factory=dict)
    notes: dict[str, dict[str, str]] = field(default_factory=dict)
    parts: dict[Any, Parameter | None] = field(default_factory=dict)
    fresh_dims: int = 0
    effort: int = 0
    _folds: dict[Value, npt.NDArray[Any] | None] = field(default_factory=dict)

    around: Graph | None = None

    def dims(self) -> frozenset[str]:
        """Names of the dimensions that are known in this graph, of its inputs or decided in it or around it."""
        own = {
            name
            for values in (self.builder.graph.inputs, *(node.outputs for node in self.builder.graph.nodes))
            for value in values
            for name in names_in(value.shape)
        }
        return frozenset(own) | (frozenset() if self.around is None else self.around.dims())

    def body(self, builder: Builder) -> Graph:
        """The graph of a subgraph: what is known here of constants and sizes is known there."""
        copies = (dict(self.constants), dict(self.sizes), dict(self.size_dtypes), dict(self.perms))
        made = Graph(builder, self.opsets, {}, *copies, effort=self.effort, around=self)
        made.notes, made.parts = self.notes, self.parts
        return made

    def knows(self, name: str) -> bool:
        return name in self.values or name in self.constants or name in self.sizes

    def value(self, name: str) -> Value:
        """The tensor of this name. Raises MalformedError if nothing before produces it."""
        if name not in self.values:
            if name in self.constants:
                self.values[name] = self._constant(name)
            elif name in self.sizes:
                self.values[name] = self._emit_sizes(name)
            else:
                raise MalformedError(f"the value {name!r} is read but nothing before produces it")
        return self.values[name]

    def _constant(self, name: str) -> Value:
        value = self.builder.parameter(self.constants[name])
        perm = self.perms.get(name)
        if perm is None:
            return value
        return self.builder.emit(ops.Transpose(perm), value, name=f"{name}.stored")

    def _emit_sizes(self, name: str) -> Value:
        known, dtype = self.sizes[name], self.size_dtypes.get(name, DType.INT64)
        if all(isinstance(item, int) for item in known.ravel()):
            return self.builder.constant(np.asarray(known, dtype.numpy), name)
        value = self.builder.emit(ops.Dims(tuple(known.ravel()), scalar=known.ndim == 0), name=name)
        if known.ndim > 1:
            value = self.builder.emit(ops.Reshape(known.shape), value)
        return value if dtype is DType.INT64 else self.builder.emit(ops.Cast(dtype), value)

    def size_dtype(self, name: str) -> DType:
        """The element type of an integer tensor that is known."""
        constant = self.constants.get(name)
        return constant.data.dtype if constant is not None else self.size_dtypes.get(name, DType.INT64)

    def known(self, name: str) -> Sizes | None:
        """The value of an integer or bool tensor if it is known when reading, else None."""
        if name in self.sizes:
            return self.sizes[name]
        array = self.folded(name)
        if array is None or array.dtype.kind not in "iub":
            return None
        known = _objects(array)
        if name in self.constants:
            self.sizes[name] = known
            self.size_dtypes[name] = self.constants[name].data.dtype
        return known

    def known_numbers(self, name: str) -> Sizes | None:
        """As `known`, and also floating-point numbers (of constants, for arithmetic with sizes)."""
        known = self.known(name)
        if known is not None:
            return known
        array = self.folded(name)
        if array is None or array.dtype.kind != "f":
            return None
        return _objects(np.vectorize(lambda item: int(item) if item.is_integer() else item, otypes=[object])(array))

    def folded(self, name: str) -> npt.NDArray[Any] | None:
        """The elements of a small tensor that is constant, or computed from constants alone; else None."""
        if name in self.perms:
            return None
        constant = self.constants.get(name)
        if constant is not None:
            small = constant.data.size <= LARGEST_KNOWN and constant.data.dtype is not DType.STRING
            return constant.data.numpy() if small else None
        value = self.values.get(name)
        return None if value is None else self._fold(value, 0)

    def _fold(self, value: Value, depth: int) -> npt.NDArray[Any] | None:
        if value in self._folds:
            return self._folds[value]
        if depth > _DEEPEST_FOLD or value.is_input or value.dtype is DType.STRING:
            return None
        size = value.type.size
        if isinstance(size, Sym) or size > LARGEST_KNOWN:
            return None
        array = value.parameter.data.numpy() if value.parameter is not None else self._evaluated(value, depth)
        self._folds[value] = array
        return array

    def _evaluated(self, value: Value, depth: int) -> npt.NDArray[Any] | None:
        node = value.producer
        if node is None or not _is_cheap(node.op) or _is_symbolic(node.op):
            return None
        operands = [None if operand is None else self._fold(operand, depth + 1) for operand in node.inputs]
        if any(found is None and given is not None for found, given in zip(operands, node.inputs, strict=True)):
            return None
        try:
            results = evaluate_op(node.op, *operands)
        except (IndexError, ValueError, ZeroDivisionError, OverflowError, ModelError):
            return None  # an index out of range, say: that is for the runtime to report
        return results[node.outputs.index(value)]

    def new_dim(self, hint: str) -> Sym:
        """A named dimension for a size that only the data tells."""
        if self.around is not None:
            return self.around.new_dim(hint)
        taken = set(names_in(value.shape for value in self.builder.graph.inputs))
        self.fresh_dims += 1
        while f"{hint}{self.fresh_dims}" in taken:
            self.fresh_dims += 1
        return Sym(f"{hint}{self.fresh_dims}")


@dataclass(eq=False, slots=True)
class Body:
    """A subgraph that was read: its region, how many of its inputs the file states, and what it reads from around it.

    captured  the input that stands for each value outside
    forget    takes back what reading it has noted, so that it can be read again
    """

    region: Region
    builder: Builder
    formal: int
    captured: dict[Value, Value]
    forget: Callable[[], None]

    def capture(self, outer: Value) -> Value:
        """The input that stands for a value outside."""
        if outer not in self.captured:
            self.captured[outer] = self.builder.input_of(outer.name, outer.type)
        return self.captured[outer]

    def drop_unread(self) -> None:
        """Remove inputs for values outside that nothing reads."""
        read = {value for node in self.region.nodes for value in node.operands()} | set(self.region.outputs.values())
        self.captured = {outer: inner for outer, inner in self.captured.items() if inner in read}
        kept = set(self.captured.values())
        self.region.inputs[self.formal :] = [value for value in self.region.inputs[self.formal :] if value in kept]


@dataclass(eq=False, slots=True)
class OnnxNode:
    """One node of the file, for a rule."""

    graph: Graph
    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    opset: int
    where: str
    read_body: Callable[[OnnxNode, str, Sequence[TensorType]], Body] | None = None

    def body(self, attribute: str, types: Sequence[TensorType]) -> Body:
        """The subgraph in this attribute as a region, with inputs of these types."""
        if self.read_body is None:
            self.refuse("a subgraph is not read here")
        return self.read_body(self, attribute, types)

    def emit(self, op: Op, *operands: Value | None) -> Value:
        return self.graph.builder.emit(op, *operands)

    def has(self, position: int) -> bool:
        """Whether the operand is given."""
        return position < len(self.inputs) and bool(self.inputs[position])

    def value(self, position: int) -> Value:
        """A required operand as a tensor."""
        if not self.has(position):
            raise MalformedError(f"{self.kind} needs operand {position}", at=self.where)
        return self.graph.value(self.inputs[position])

    def optional(self, position: int) -> Value | None:
        return self.value(position) if self.has(position) else None

    def values(self) -> list[Value | None]:
        """All operands, None for those left out."""
        return [self.graph.value(name) if name else None for name in self.inputs]

    def constant(self, position: int) -> npt.NDArray[Any] | None:
        """The elements of a constant operand; None if it is left out. Refuses one that is computed."""
        if not self.has(position):
            return None
        name = self.inputs[position]
        parameter = self.graph.constants.get(name)
        if parameter is not None:
            return parameter.data.numpy()
        known = self.graph.known(name)
        if known is not None and all(isinstance(item, int) for item in known.ravel()):
            return np.asarray(known, self.graph.size_dtype(name).numpy)
        folded = self.graph.folded(name)
        if folded is not None:
            return folded
        return self.refuse(f"operand {position} is computed; isomorph needs it constant")

    def sizes(self, position: int) -> list[Dim] | None:
        """A 1-d integer operand as sizes, symbolic where they depend on the inputs' shapes; None if left out."""
        if not self.has(position):
            return None
        known = self.graph.known(self.inputs[position])
        if known is None:
            self.refuse(f"operand {position} depends on data; isomorph needs sizes that follow from shapes")
        return [as_dim(item) for item in known.ravel()]

    def ints(self, position: int, attribute: str) -> tuple[int, ...] | None:
        """Integers given as an operand (newer opsets) or as an attribute (older ones); None if neither."""
        if attribute in self.attributes:
            return tuple(int(item) for item in self.attributes[attribute])
        given = self.sizes(position)
        if given is None:
            return None
        if any(isinstance(item, Sym) for item in given):
            self.refuse(f"`{attribute}` depends on the shape of the input")
        return tuple(int(item) for item in given)  # type: ignore[arg-type]

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def axis(self, rank: int, default: int, name: str = "axis") -> int:
        """The axis attribute, nonnegative."""
        return normalize_axis(int(self.attributes.get(name, default)), rank)

    def refuse(self, reason: str) -> NoReturn:
        """Raise UnsupportedError for this node."""
        raise UnsupportedError("read onnx", [Unsupported(self.kind, reason, self.where)])

    def require_dtype(self, value: Value, dtype: DType) -> Value:
        """The value, cast if it has another element type."""
        return value if value.dtype is dtype else self.emit(ops.Cast(dtype), value)


def _objects(array: npt.NDArray[Any]) -> Sizes:
    """An array of Python numbers."""
    made = np.empty(array.shape, object)
    made[...] = array.tolist()
    return made


def _is_cheap(op: Op) -> bool:
    """Whether an evaluation takes no more memory and time than its operands and results have elements."""
    family = type(op).__module__.rpartition(".")[2]
    return op.can_evaluate() and family in ("activation", "elementwise", "index", "reduce", "shape")


def _is_symbolic(op: Op) -> bool:
    """Whether an attribute holds a symbolic size."""

    def symbolic(attribute: Any) -> bool:
        return isinstance(attribute, Sym) or (isinstance(attribute, tuple) and any(map(symbolic, attribute)))

    return any(map(symbolic, op.attributes().values()))


def object_array(items: Sequence[Dim]) -> Sizes:
    """A 1-d array of sizes."""
    made = np.empty(len(items), object)
    made[:] = list(items)
    return made


def parse_json(text: str) -> Any:
    """JSON of a metadata entry, or None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def parse_size(text: str) -> Dim:
    """A symbolic size: an expression if it reads as one, else a name made of the text."""
    try:
        if len(text) <= _LONGEST_EXPRESSION:
            return parse_dim(text)
    except ModelError:
        pass
    if len(text) > _LONGEST_EXPRESSION:
        from hashlib import sha256

        text = f"dim_{sha256(text.encode()).hexdigest()[:16]}"
    plain = re.sub(r"\W+", "_", text).strip("_") or "dim"
    return Sym(plain if not plain[0].isdigit() else f"d{plain}")


def as_source(data: Any, node: OnnxNode) -> TensorSource:
    if not isinstance(data, TensorSource):
        raise MalformedError(f"{node.kind} needs a tensor attribute", at=node.where)
    return data
