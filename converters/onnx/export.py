"""What export rules write with: nodes, constants, and sizes that are computed from the shapes of the inputs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper

from isomorph.converters.onnx.codec import element_type
from isomorph.errors import Unsupported, UnsupportedError
from isomorph.ir import ArrayTensor, Dim, DType, Graph, Model, Node, Parameter, Sym, TensorSource, Value
from isomorph.ir.layout import Perm
from isomorph.ir.ops.shape import Transpose
from isomorph.ir.shapes import Atom, DimRange, bounds

__all__ = ["Export", "PackedTensor"]


class PackedTensor(NamedTuple):
    """An initializer that is put together of several parameters."""

    name: str
    data: TensorSource
    notes: dict[str, str]
    parts: tuple[Value, ...]


class Export:
    """The ONNX graph being written. `emit` appends nodes; the node at hand gives them name, scope and origin."""

    def __init__(self, model: Model, opset: int) -> None:
        self.model = model
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, ArrayTensor] = {}
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._sizes: dict[Dim, str] = {}
        self._taken = {value.name for value in model.graph.values()} | set(model.graph.outputs)
        self._node_names: set[str] = set()
        self._node: Node | None = None
        self.names = _output_names(model)
        self.stored_perms = _stored_perms(model)
        self._taken |= set(self.names.values())
        self._where: dict[str, tuple[Value, int, int, int]] = {}
        self._bound: dict[str, Value] = {}
        self._locate(model.graph.inputs)
        graphs = list(model.graph.graphs())
        decided = {name for graph in graphs for node in graph.nodes for name in node.op.defines()}
        self._decided = {name: DimRange(0) for name in decided}
        self.users = {value: users for graph in graphs for value, users in graph.users().items()}
        self.outputs = {value for graph in graphs for value in graph.outputs.values()}
        self.weights = self._name_weights(graphs)
        self.packed: dict[Any, PackedTensor] = {}
        self.time_major: dict[Value, str] = {}
        self.inside_nodes: set[Value] = set()  # parameters that nodes hold as attributes
        self.masks: dict[Value, str] = {}

    def _name_weights(self, graphs: Sequence[Graph]) -> list[Value]:
        """The parameters, one value for each, and one name for all values of it: a region may have some of its own."""
        weights: dict[Parameter, Value] = {}
        for graph in graphs:
            for value in graph.parameters:
                if value.parameter is None:
                    continue
                known = weights.setdefault(value.parameter, value)
                if known is not value:
                    self.names[value] = self.name(known)
                elif graph is not self.model.graph:
                    self.names[value] = self.fresh(value.name)
        return list(weights.values())

    @contextmanager
    def inside(self, inputs: Iterable[Value]) -> Iterator[None]:
        """Nodes go to a subgraph with these inputs while this holds: it sees what is around it, and keeps its own."""
        saved = self.nodes, self._sizes, self._where, self._bound, self._node, self.masks
        self.nodes, self._sizes, self._where = [], dict(self._sizes), dict(self._where)
        self._bound, self._node, self.masks = dict(self._bound), None, dict(self.masks)
        self._locate(inputs)
        try:
            yield
        finally:
            self.nodes, self._sizes, self._where, self._bound, self._node, self.masks = saved

    def may_be_zero(self, dim: Dim) -> bool:
        """Whether a size that data decide (a number of boxes) may leave nothing. Inputs are not taken for empty."""
        if not isinstance(dim, Sym) or not dim.names() & self._decided.keys():
            return dim == 0
        least, _ = bounds(dim, {name: self._decided.get(name, DimRange()) for name in dim.names()})
        return least is None or least < 1

    def is_read(self, value: Value) -> bool:
        """Whether a node or an output of the graph needs the value."""
        return value in self.outputs or bool(self.users.get(value))

    def _locate(self, values: Iterable[Value]) -> None:
        """Note where the sizes of named dimensions can be read: `factor * name + offset` is the size of an axis."""
        lines = [
            (*dim.line, value, axis)
            for value in values
            for axis, dim in enumerate(value.shape)
            if isinstance(dim, Sym) and dim.line is not None
        ]
        for name, factor, offset, value, axis in sorted(lines, key=lambda line: line[1:3] != (1, 0)):
            self._where.setdefault(name, (value, axis, factor, offset))

    def bind(self, dim: Dim, value: Value) -> None:
        """From here on the named dimension has the value of this tensor of shape (1,)."""
        if isinstance(dim, Sym) and dim.name is not None:
            self._bound[dim.name] = value
            stale = [size for size in self._sizes if isinstance(size, Sym) and dim.name in size.names()]
            for size in stale:  # in a loop the name may have had another value before
                del self._sizes[size]

    def name(self, value: Value | str | None) -> str:
        """The name of a value in the file; "" for an absent operand."""
        if value is None:
            return ""
        return value if isinstance(value, str) else self.names.get(value, value.name)

    def begin(self, node: Node) -> None:
        """From here on, nodes belong to this IR node; the sizes that the one before it decided are known."""
        if self._node is not None and self._node.op.defines():
            self._locate(self._node.outputs)
        self._node = node

    def fresh(self, hint: str) -> str:
        """An unused value name."""
        name, count = hint, 0
        while name in self._taken:
            count += 1
            name = f"{hint}_{count}"
        self._taken.add(name)
        return name

    def emit(
        self,
        kind: str,
        inputs: Sequence[Value | str | None],
        outputs: Sequence[Value | str] | None = None,
        *,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Append an ONNX node and return its first output's name. Without `outputs` it makes one new value.

        Attributes that are None are left out.
        """
        named = [self.name(value) for value in inputs]
        while named and not named[-1]:
            named.pop()
        made = (
            [self.name(value) for value in outputs]
            if outputs is not None
            else [self.fresh(f"{self._title()}.{kind.lower()}")]
        )
        given = {key: value for key, value in attributes.items() if value is not None}
        self.append(helper.make_node(kind, named, made, domain=domain, **given))
        return made[0]

    def append(self, proto: onnx.NodeProto) -> None:
        """Append a node whose values have their names in the file; it gets name, scope and origin."""
        proto.name = self._unique_node(proto.op_type)
        self._annotate(proto)
        self.nodes.append(proto)

    def replace(
        self, kind: str, node: Node, *, inputs: Sequence[Value | str | None] | None = None, **attributes: Any
    ) -> None:
        """The IR node as one ONNX node with the same outputs (and operands, unless given)."""
        self.emit(kind, node.inputs if inputs is None else inputs, node.outputs, **attributes)

    def constant(self, array: np.ndarray, hint: str = "constant") -> str:
        """An initializer; equal ones are shared."""
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._shared:
            name = self.fresh(hint)
            self._shared[key] = name
            self.constants[name] = ArrayTensor(array)
        return self._shared[key]

    def pack(self, key: Any, parts: Sequence[Value], data: TensorSource, notes: dict[str, str]) -> str:
        """The name of a weight that is put together of several, the same for the same key.

        It bears the name of the first part if nothing needs that name; `notes` go to its metadata. Parts that no node
        reads otherwise are not written.
        """
        if key not in self.packed:
            name = self.name(parts[0])
            if self._needed_alone(parts[0]) or any(name == packed.name for packed in self.packed.values()):
                name = self.fresh(f"{name}.packed")
            self.packed[key] = PackedTensor(name, data, notes, tuple(parts))
        return self.packed[key].name

    def _needed_alone(self, part: Value) -> bool:
        """Whether something else may read the parameter than the node at hand and nodes with the same weights."""
        weights = [None if value is None else value.parameter for value in self._node.inputs] if self._node else []
        users = self.users.get(part, [])
        same = all([None if value is None else value.parameter for value in user.inputs] == weights for user in users)
        return not same or part in self.outputs

    def ints(self, values: Iterable[int], hint: str = "ints") -> str:
        """A 1-d int64 initializer."""
        return self.constant(np.asarray(list(values), np.int64), hint)

    def sizes(self, dims: Sequence[Dim], hint: str = "sizes") -> str:
        """A 1-d int64 value with these sizes: an initializer, or computed where some are symbolic."""
        if not any(isinstance(dim, Sym) for dim in dims):
            return self.ints((int(dim) for dim in dims), hint)  # type: ignore[arg-type]
        pieces: list[str] = []
        run: list[int] = []
        for dim in dims:
            if isinstance(dim, Sym):
                if run:
                    pieces.append(self.ints(run))
                    run = []
                pieces.append(self.size(dim))
            else:
                run.append(dim)
        if run:
            pieces.append(self.ints(run))
        return pieces[0] if len(pieces) == 1 else self.emit("Concat", pieces, axis=0)

    def size(self, dim: Dim) -> str:
        """A value of shape (1,), int64: the size computed from the shapes of the inputs, once for each expression."""
        if not isinstance(dim, Sym):
            return self.ints([dim])
        if dim not in self._sizes:
            self._sizes[dim] = self._compute(dim)
        return self._sizes[dim]

    def _compute(self, dim: Sym) -> str:
        total: str | None = None
        for monomial, factor in dim.terms:
            product: str | None = None
            for atom in monomial:
                value = self._atom(atom)
                product = value if product is None else self.emit("Mul", [product, value])
            if product is None:
                product = self.ints([factor])
            elif factor != 1:
                product = self.emit("Mul", [product, self.ints([factor])])
            total = product if total is None else self.emit("Add", [total, product])
        assert total is not None
        return total

    def _atom(self, atom: Atom) -> str:
        if atom.op == "dim":
            if atom.name in self._bound:
                return self.name(self._bound[atom.name])
            if atom.name not in self._where:
                assert self._node is not None
                item = Unsupported(
                    self._node.op.name, f"nothing in the graph has the size {atom.name}", self._node.describe()
                )
                raise UnsupportedError("write this model to onnx", [item])
            return self._dimension(*self._where[atom.name])
        left, right = (self.size(arg) for arg in atom.args)
        if atom.op in ("min", "max"):
            return self.emit(atom.op.capitalize(), [left, right])
        if atom.op == "%":
            return self.emit("Mod", [left, right])
        remainder = self.emit("Mod", [left, right])  # Div truncates; sizes may be negative on the way, so floor exactly
        return self.emit("Div", [self.emit("Sub", [left, remainder]), right])

    def _dimension(self, value: Value, axis: int, factor: int, offset: int) -> str:
        """The named dimension whose `factor`-fold plus `offset` is the size of an input's axis."""
        if self.opset >= 15:
            size = self.emit("Shape", [value], start=axis, end=axis + 1)
        else:
            size = self._shape_13(value, axis)
        if offset:
            size = self.emit("Sub", [size, self.ints([offset])])
        return size if factor == 1 else self.emit("Div", [size, self.ints([factor])])

    def _shape_13(self, value: Value, axis: int) -> str:
        return self.emit("Gather", [self.emit("Shape", [value]), self.ints([axis])], axis=0)

    def _title(self) -> str:
        return self._node.outputs[0].name if self._node is not None else "graph"

    def _unique_node(self, kind: str) -> str:
        base = self._node.name if self._node is not None else kind
        name = base if base not in self._node_names else f"{base}.{kind.lower()}"
        count, candidate = 0, name
        while candidate in self._node_names:
            count += 1
            candidate = f"{name}_{count}"
        self._node_names.add(candidate)
        return candidate

    def _annotate(self, proto: onnx.NodeProto) -> None:
        if self._node is None:
            return
        scope, origin = self._node.scope, self._node.origin
        entries = [[entry.path, entry.cls, entry.call] for entry in scope.entries]
        about = {
            "framework": origin.framework,
            "op": origin.op,
            "name": origin.name,
            "file": origin.file,
            "line": origin.line,
            "code": origin.code,
        }
        for key, data in (("isomorph.scope", entries), ("isomorph.origin", {k: v for k, v in about.items() if v})):
            proto.metadata_props.add(key=key, value=json.dumps(data, ensure_ascii=False, separators=(",", ":")))

    def cast(self, value: Value | str, dtype: DType) -> str:
        return self.emit("Cast", [value], to=element_type(dtype))


def _stored_perms(model: Model) -> dict[Value, Perm]:
    """Parameters that only Transposes by one permutation read: they are stored in that order, without the node."""
    users = model.graph.users()
    shown = set(model.graph.outputs.values())
    perms: dict[Value, Perm] = {}
    inner = {
        value.parameter for graph in model.graph.graphs() for value in graph.parameters if graph is not model.graph
    }
    for value in model.graph.parameters:
        if value.parameter in inner:
            continue
        found = {user.op.perm if isinstance(user.op, Transpose) else None for user in users.get(value, [])}
        results = [user.output for user in users.get(value, []) if isinstance(user.op, Transpose)]
        if len(found) == 1 and None not in found and value not in shown and not shown.intersection(results):
            perms[value] = found.pop()  # type: ignore[assignment]
    return perms


def _output_names(model: Model) -> dict[Value, str]:
    """Node outputs that bear the name of a graph output instead of their own, and values that make room for one."""
    names: dict[Value, str] = {}
    outputs = model.graph.outputs
    for name, value in outputs.items():
        if value.producer is not None and value not in names:
            names[value] = name
    taken = {value.name for value in model.graph.values()} | set(outputs)
    for value in model.graph.values():
        if value in names or outputs.get(value.name, value) is value:
            continue
        if value.is_input:
            item = Unsupported("output", "it has the name of an input and is another value", value.name)
            raise UnsupportedError("write this model to onnx", [item])
        count = 1
        while f"{value.name}_{count}" in taken:
            count += 1
        names[value] = f"{value.name}_{count}"
        taken.add(names[value])
    return names
