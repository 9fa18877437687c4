"""Builds graphs: `emit` infers types at once, so a wrong op fails on the line that builds it.

b = Builder("lenet")
x = b.input("x", DType.FLOAT32, (Sym("N"), 1, 28, 28))
w = b.parameter(Parameter("conv1.weight", data))
with b.at(scope, origin):
    y = b.emit(ops.Conv(strides=(1, 1), pads=((0, 0), (0, 0)), dilations=(1, 1)), x, w, None)
b.output("y", y)
model = b.finish()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from operator import is_
from typing import TypeVar

import numpy.typing as npt

from isomorph.errors import GraphError
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Graph, Model, Node, Region, State, Value
from isomorph.ir.op import Op, TensorType
from isomorph.ir.origin import Origin, Scope
from isomorph.ir.params import Parameter
from isomorph.ir.shapes import DimRange, Shape
from isomorph.ir.tensors import ArrayTensor, TensorSource

__all__ = ["Builder", "Rewriter", "rewrite"]


GraphT = TypeVar("GraphT", bound=Graph)


class Builder:
    """Builds one graph. Names are made unique by appending `_1`, `_2`, … in the order of creation."""

    def __init__(self, name: str, *, graph: Graph | None = None) -> None:
        self.graph = graph if graph is not None else Graph(name)
        self._names: set[str] = set()
        self._reserved: set[str] = set()
        self._counters: dict[str, int] = {}
        self._defaults: dict[str, int] = {}
        self._parameter_values: dict[Parameter, Value] = {}
        self._scope: Scope | None = None
        self._origin: Origin | None = None
        self._pass: str | None = None

    def unique(self, name: str) -> str:
        """`name`, or `name_1`, `name_2` … if it is taken. The result is taken from now on."""
        candidate = name
        while self.is_taken(candidate):
            count = self._counters.get(name, 0) + 1
            self._counters[name] = count
            candidate = f"{name}_{count}"
        self._names.add(candidate)
        return candidate

    def is_taken(self, name: str) -> bool:
        """Whether a new value must not be called `name`."""
        return name in self._names

    def reserve(self, names: Iterable[str]) -> None:
        """Names that values will `keep` later: no value gets one of them by default."""
        self._reserved.update(names)

    def keep(self, value: Value, name: str) -> Value:
        """Give a value the name that it bears in the source, if that is free."""
        if name not in self._names:
            self._names.discard(value.name)
            self._names.add(name)
            value.name = name
        return value

    def release(self, value: Value) -> None:
        """Give a value another name, so that its own is free again."""
        freed = value.name
        value.name = self.unique(freed)
        self._names.discard(freed)

    @contextmanager
    def at(self, scope: Scope | None, origin: Origin | None) -> Iterator[None]:
        """Everything emitted inside belongs to this scope and comes from this origin."""
        saved = self._scope, self._origin, self._pass
        self._scope, self._origin, self._pass = scope, origin, None
        try:
            yield
        finally:
            self._scope, self._origin, self._pass = saved

    def _marked_origin(self) -> Origin | None:
        return self._origin if self._origin is None or self._pass is None else self._origin.changed_by(self._pass)

    def input(self, name: str, dtype: DType, shape: Shape) -> Value:
        """Declare the next input."""
        return self.input_of(name, TensorType(dtype, tuple(shape)))

    def input_of(self, name: str, kind: TensorType) -> Value:
        """Declare the next input, of a type that is at hand."""
        value = Value(self.unique(name), kind)
        self.graph.inputs.append(value)
        return value

    def parameter(self, parameter: Parameter) -> Value:
        """The value of a parameter; the same parameter always gives the same value."""
        value = self._parameter_values.get(parameter)
        if value is None:
            kind = TensorType(parameter.data.dtype, parameter.data.shape)
            value = Value(self.unique(parameter.name), kind, parameter=parameter)
            self._parameter_values[parameter] = value
            self.graph.parameters.append(value)
        return value

    def constant(self, data: npt.ArrayLike | TensorSource, name: str = "constant") -> Value:
        """A literal of the graph, as a parameter of role "constant"."""
        source = data if isinstance(data, TensorSource) else ArrayTensor(data)
        return self.parameter(Parameter(name, source, trainable=False, role="constant"))

    def emit(self, op: Op, *operands: Value | None, name: str | None = None) -> Value:
        """Append a node with one output and return that. `name` is the output's (default: the op's, in snake_case)."""
        values = self.emit_many(op, *operands, names=None if name is None else [name])
        if len(values) != 1:
            raise GraphError(f"{op.name} has {len(values)} outputs; use emit_many")
        return values[0]

    def emit_many(
        self,
        op: Op,
        *operands: Value | None,
        names: Sequence[str] | None = None,
        regions: Sequence[Region] = (),
        node_name: str | None = None,
    ) -> tuple[Value, ...]:
        """Append a node and return all its outputs. Trailing absent operands may be left out."""
        origin = self._marked_origin()
        if origin is None or self._scope is None:
            raise GraphError(f"{op.name} is emitted outside of `with builder.at(scope, origin)`")
        given = [None if value is None else value.type for value in operands]
        types = op.infer(*given)
        op.check_opaque([*given, *types])
        op.check_regions(given, regions)
        base = _snake(op.name)
        chosen = list(names) if names is not None else [self._default_name(op) for _ in types]
        if len(chosen) != len(types):
            raise GraphError(f"{op.name} has {len(types)} outputs and was given {len(chosen)} names")
        outputs = tuple(Value(self.unique(name), kind) for name, kind in zip(chosen, types, strict=True))
        inputs = list(operands)
        while inputs and inputs[-1] is None:
            inputs.pop()
        title = node_name if node_name is not None else outputs[0].name if outputs else self.unique(base)
        node = Node(title, op, tuple(inputs), outputs, self._scope, origin, tuple(regions))
        for value in outputs:
            value.producer = node
        self.graph.nodes.append(node)
        return outputs

    def _default_name(self, op: Op) -> str:
        """What an output is called by default, before it is made unique."""
        base = _snake(op.name)
        count = self._defaults.get(base, 0)
        while (name := f"{base}_{count}" if count else base) in self._reserved:
            count += 1
        self._defaults[base] = count
        return name

    def region(self, name: str) -> Builder:
        """A builder of a region of the node to come (its `graph`), in the scope and from the origin at hand."""
        inner = Builder(name, graph=Region(name))
        inner._scope, inner._origin = self._scope, self._marked_origin()
        return inner

    def output(self, name: str, value: Value) -> None:
        """Declare the next output."""
        if name in self.graph.outputs:
            raise GraphError(f"two outputs are named {name!r}")
        self.graph.outputs[name] = value

    def finish(
        self,
        *,
        dims: Mapping[str, DimRange] | None = None,
        metadata: Mapping[str, str] | None = None,
        source: tuple[str, str] = ("", ""),
        state: Mapping[str, State] | None = None,
    ) -> Model:
        """The finished model."""
        return Model(self.graph, dict(dims or {}), dict(metadata or {}), source, dict(state or {}))


@cache
def _snake(name: str) -> str:
    parts = []
    for index, char in enumerate(name):
        previous = name[index - 1] if index else ""
        if char.isupper() and previous and (previous.islower() or previous.isdigit()):
            parts.append("_")
        parts.append(char.lower())
    return "".join(parts)


class Rewriter(Builder):
    """A builder that carries a graph over node by node, so that a pass only says what changes.

    `mapping` holds the new value for each old one. What does not change is not copied: nodes whose operands stay, and
    their values, belong to both graphs. Values that nothing reads any more stay behind unless `prune`d.
    """

    def __init__(self, source: Graph) -> None:
        super().__init__(source.name, graph=Region(source.name) if isinstance(source, Region) else None)
        self.source = source
        self.mapping: dict[Value, Value] = {}
        self.reserve(value.name for value in source.values())
        self._carried = 0
        self._waiting = 0
        self.unchanged = False

    def is_taken(self, name: str) -> bool:
        """Names of the source graph are left for the copies of their bearers."""
        return name in self._reserved or super().is_taken(name)

    def copy_inputs(self) -> None:
        for value in self.source.inputs:
            self.graph.inputs.append(value)
            self._adopt(value)

    def begin(self, position: int, pass_name: str) -> None:
        """From here on, what is emitted stands for the node at this position of the source graph.

        While the graph is `unchanged`, the nodes before it wait: they come over when something is emitted.
        """
        node = self.source.nodes[position]
        self._scope, self._origin, self._pass = node.scope, node.origin, pass_name
        if self.unchanged:
            self._waiting = position

    def carry(self) -> None:
        """Bring over the nodes that wait, as they are."""
        for node in self.source.nodes[self._carried : self._waiting]:
            self._take(node)
        self._carried = self._waiting

    def _take(self, node: Node) -> None:
        for value in node.inputs:
            if value is not None and value.parameter is not None:
                self.new(value)
        self.graph.nodes.append(node)
        for value in node.outputs:
            self._adopt(value)

    def emit_many(
        self,
        op: Op,
        *operands: Value | None,
        names: Sequence[str] | None = None,
        regions: Sequence[Region] = (),
        node_name: str | None = None,
    ) -> tuple[Value, ...]:
        """As of every builder, behind the nodes that wait."""
        self.carry()
        return super().emit_many(op, *operands, names=names, regions=regions, node_name=node_name)

    def _adopt(self, value: Value) -> None:
        """Let a value of the source graph be a value of this one."""
        self._names.add(value.name)
        self.mapping[value] = value

    def new(self, value: Value) -> Value:
        """The new value for an old one; a parameter comes over when it is first read."""
        known = self.mapping.get(value)
        if known is not None:
            return known
        if value.parameter is None:
            if self.unchanged:
                return value
            raise GraphError(f"%{value.name} is read before it is produced")
        if value.parameter in self._parameter_values or value.name in self._names:
            self.mapping[value] = self.keep(self.parameter(value.parameter), value.name)
        else:
            self._parameter_values[value.parameter] = value
            self.graph.parameters.append(value)
            self._adopt(value)
        return self.mapping[value]

    def new_inputs(self, node: Node) -> tuple[Value | None, ...]:
        return tuple([None if value is None else self.new(value) for value in node.inputs])

    def copy(
        self,
        node: Node,
        op: Op | None = None,
        inputs: Sequence[Value | None] | None = None,
        regions: Sequence[Region] | None = None,
    ) -> tuple[Value, ...]:
        """Copy a node, with another op, (new) inputs or regions if given; the outputs keep their names.

        A node that stays as it is becomes a node of this graph as well.
        """
        self.carry()
        given = self.new_inputs(node) if inputs is None else tuple(inputs)
        kept = tuple(regions or ()) if regions is not None else node.regions
        if (op is None or op is node.op) and kept == node.regions and self._stays(node, given):
            self._take(node)
            return node.outputs
        if (op is None or op is node.op) and not kept and _same_types(node, given):
            outputs = self._copy_alike(node, given)
        else:
            with self.at(node.scope, node.origin):
                outputs = self.emit_many(op or node.op, *given, regions=kept, node_name=node.name)
        self.replace(node, outputs)
        return outputs

    def _copy_alike(self, node: Node, inputs: tuple[Value | None, ...]) -> tuple[Value, ...]:
        """The node with other operands of the same types: what it gives has the types that it had."""
        outputs = tuple([Value(self.unique(self._default_name(node.op)), value.type) for value in node.outputs])
        made = Node(node.name, node.op, inputs, outputs, node.scope, node.origin)
        for value in outputs:
            value.producer = made
        self.graph.nodes.append(made)
        return outputs

    def _stays(self, node: Node, inputs: Sequence[Value | None]) -> bool:
        """Whether these are the operands of the node, and the names of its results are free."""
        same = len(inputs) == len(node.inputs) and all(map(is_, inputs, node.inputs))
        return same and self._names.isdisjoint([value.name for value in node.outputs])

    def replace(self, node: Node, values: Sequence[Value]) -> None:
        """Let new values stand for the outputs of an old node; values that are new take over the old names."""
        if len(values) != len(node.outputs):
            raise GraphError(f"{node.op.name} has {len(node.outputs)} outputs, {len(values)} replacements were given")
        for old, made in zip(node.outputs, values, strict=True):
            if made.producer is not None and made.name not in self._reserved:
                self.keep(made, old.name)
            self.mapping[old] = made

    def copy_outputs(self) -> None:
        for name, value in self.source.outputs.items():
            self.output(name, self.new(value))


def _same_types(node: Node, inputs: Sequence[Value | None]) -> bool:
    """Whether these operands are of the types of the node's own."""
    if len(inputs) != len(node.inputs):
        return False
    pairs = zip(inputs, node.inputs, strict=True)
    return all(a is b or (a is not None and b is not None and a.type == b.type) for a, b in pairs)


Change = Callable[[Rewriter, Node], Sequence[Value] | None]


def rewrite(model: Model, pass_name: str, change: Change, *, regions: bool = False) -> Model:
    """The model in which `change` may replace nodes; the model itself if it replaces none.

    `change(rewriter, node)` returns the new values for the node's outputs, or None to copy the node as it is. It runs
    with the node's scope and with its origin marked as changed by `pass_name`. With
    `regions`, nodes in regions come too, before the node that has the regions and with a rewriter of their own
    (`rewriter.source` is the region); else regions stay as they are.
    """
    graph = _rewrite_graph(model.graph, pass_name, change, regions)
    return model if graph is model.graph else model.with_graph(graph)


def _rewrite_graph(graph: GraphT, pass_name: str, change: Change, deep: bool) -> GraphT:
    rewriter = Rewriter(graph)
    rewriter.copy_inputs()
    rewriter.unchanged = True
    for position, node in enumerate(graph.nodes):
        regions = [_rewrite_graph(each, pass_name, change, deep) for each in node.regions] if deep else node.regions
        rewriter.begin(position, pass_name)
        values = change(rewriter, node)
        if values is None and rewriter.unchanged and all(map(is_, regions, node.regions)):
            continue
        rewriter.carry()
        rewriter.unchanged = False
        if values is None:
            rewriter.copy(node, regions=regions)
        else:
            rewriter.replace(node, values)
    if rewriter.unchanged:
        return graph
    rewriter.copy_outputs()
    return rewriter.graph  # type: ignore[return-value]
