"""Lays a model out for a target: which values keep the source's axis order and which get the target's.

Every value of rank 3 or more is either *as it is* or *permuted* (to channels-last for a channels-last target, to
channels-first for the other). Windowed ops demand the target's layout, ops like Reshape demand the order they were built
with, most ops take either. Transposing a value costs the bytes moved; the cheapest assignment is a minimum cut:

    source side = as it is, sink side = permuted
    a node is one vertex; a value joins its producer and its users through two vertices, so that however many users
    read it in the other order it is transposed once

Parameters permute for free (a lazy view). A Flatten that only fully connected layers read is free too: the permutation
goes into their weights. A Transpose in the source that does what the permutation does disappears.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from isomorph.ir.builder import Rewriter
from isomorph.ir.graph import Graph, Model, Node, Value
from isomorph.ir.layout import Layout, LayoutRule, Perm, inverse, to_channels_first, to_channels_last
from isomorph.ir.op import TensorType
from isomorph.ir.ops.activation import Dropout, Relu
from isomorph.ir.ops.linear import Gemm, Linear, MatMul
from isomorph.ir.ops.shape import Flatten, Reshape, Transpose
from isomorph.ir.params import Parameter
from isomorph.ir.passes.mincut import CutGraph
from isomorph.ir.shapes import Dim, elements, substitute

__all__ = ["assign_layout"]

Refuse = Callable[[Node], str | None]


def assign_layout(model: Model, layout: Layout, refuse: Refuse, *, native: bool = False) -> Model:
    """The model with windowed ops in `layout` and as few bytes transposed as possible.

    refuse   why the target cannot take a node as it is: decides between two orders where only one is taken
    native   inputs and outputs may change their axis order too; otherwise the signature stays
    The result's metadata "isomorph.pairing" says how its signature relates to the source's.
    """
    plan = _Plan(model.graph, layout, refuse, native=native)
    return _Apply(model, plan).run()


class _Plan:
    """Who is permuted: `labels` holds the nodes and inputs that are, `flattened` the reshapes whose weights take it over."""

    def __init__(self, graph: Graph, layout: Layout, refuse: Refuse, *, native: bool) -> None:
        self.graph = graph
        self.layout = layout
        self.refuse = refuse
        self.users = graph.users()
        self.outputs = set(graph.outputs.values())
        self.native = native
        self._cut = CutGraph()
        self._writers: dict[Value, int] = {}
        self._readers: dict[tuple[Node, Value], int] = {}
        self._vertices: dict[Node | Value, int] = {}
        self.permuted: set[Node | Value] = set()
        self._solve()

    def perm(self, rank: int) -> Perm:
        """The permutation from the source's order to the other one."""
        return to_channels_last(rank) if self.layout is Layout.CHANNELS_LAST else to_channels_first(rank)

    def _solve(self) -> None:
        for value in self.graph.inputs:
            vertex = self._cut.vertex()
            self._vertices[value] = self._writers[value] = vertex
            if not self.native:
                self._pin(vertex, permuted=False)
        for node in self.graph.nodes:
            self._add_node(node)
        for value in self._writers:
            if value.rank >= 3:
                self._join(value)
        side = self._cut.sink_side()
        self.permuted = {key for key, vertex in self._vertices.items() if vertex in side}

    def _pin(self, vertex: int, *, permuted: bool) -> None:
        self._prefer(vertex, CutGraph.INFINITE, permuted=permuted)

    def _prefer(self, vertex: int, cost: int, *, permuted: bool) -> None:
        """The other choice costs `cost`."""
        if permuted:
            self._cut.edge(vertex, CutGraph.SINK, cost)
        else:
            self._cut.edge(CutGraph.SOURCE, vertex, cost)

    def _add_node(self, node: Node) -> None:
        vertex = self._vertices[node] = self._cut.vertex()
        reads = vertex
        writes = vertex
        if isinstance(node.op, Transpose):
            reads, writes = self._add_transpose(node, vertex)
        elif isinstance(node.op, Reshape | Flatten):
            writes = self._fixed()
            if not (self.order_free(node) or self.absorbers(node)):
                self._pin(vertex, permuted=False)
        elif not self.is_free(node):
            self._pin(vertex, permuted=False)
        else:
            self._add_choice(node, vertex)
        for value in node.operands():
            self._readers[node, value] = reads if is_data(node, value) else self._fixed()
        for value in node.outputs:
            same_rank = value.rank == data_rank(node)
            self._writers[value] = writes if same_rank or not node.inputs else self._fixed()

    def _fixed(self) -> int:
        vertex = self._cut.vertex()
        self._pin(vertex, permuted=False)
        return vertex

    def _add_transpose(self, node: Node, vertex: int) -> tuple[int, int]:
        """A Transpose by the permutation, or by its inverse, is free when its operand, or its result, is permuted."""
        assert isinstance(node.op, Transpose)
        value = node.output
        fixed = self._fixed()
        cost = self.cost(value)
        if value.rank >= 3 and node.op.perm == self.perm(value.rank):
            self._prefer(vertex, cost, permuted=True)
            return vertex, fixed
        if value.rank >= 3 and node.op.perm == inverse(self.perm(value.rank)):
            self._prefer(vertex, cost, permuted=True)
            return fixed, vertex
        self._pin(vertex, permuted=False)
        return fixed, fixed

    def _add_choice(self, node: Node, vertex: int) -> None:
        if node.op.layout_rule is LayoutRule.BOUND:
            self._pin(vertex, permuted=node.op.layout is not self.layout)  # type: ignore[attr-defined]
        elif node.op.layout_rule is LayoutRule.AXES:
            here, there = self.refuse(node), self.refuse(self.permuted_node(node))
            if (here is None) != (there is None):
                self._pin(vertex, permuted=here is not None)

    def is_free(self, node: Node) -> bool:
        """Whether the node can be computed in the permuted order."""
        rank = data_rank(node)
        if rank < 3 or node.regions:
            return False
        if node.op.layout_rule is LayoutRule.ELEMENTWISE:
            return all(value.rank == rank or value.is_parameter or elements(value.shape) == 1 for value in node.operands())
        perm = self.perm(rank)
        if node.op.permuted(perm) is None:
            return False
        if node.op.layout_rule is LayoutRule.BOUND:
            return True
        return all(value.rank == rank or self._keeps_order(node, value, perm) for value in node.outputs)

    def _keeps_order(self, node: Node, value: Value, perm: Perm) -> bool:
        """Whether an output of smaller rank (a reduction's) comes out the same in both orders."""
        axes = getattr(node.op, "axes", None) or (getattr(node.op, "axis", None),)
        rest = [axis for axis in perm if axis not in axes]
        return len(rest) == value.rank and rest == sorted(rest)

    def permuted_node(self, node: Node) -> Node:
        """The node as it would be in the permuted order, for asking the target about it."""
        perm = self.perm(data_rank(node))
        op = node.op.permuted(perm)
        assert op is not None

        def turned(value: Value) -> Value:
            if value.rank != len(perm) or not is_data(node, value):
                return value
            kind = TensorType(value.dtype, tuple(value.shape[axis] for axis in perm))
            return Value(value.name, kind, parameter=value.parameter)

        inputs = tuple(None if value is None else turned(value) for value in node.inputs)
        return Node(node.name, op, inputs, tuple(map(turned, node.outputs)), node.scope, node.origin)

    def order_free(self, node: Node) -> bool:
        """Whether a reshape reads the same elements in the same order from the permuted operand."""
        return self.is_still(next(node.operands()))

    def is_still(self, value: Value) -> bool:
        """Whether the permutation moves no element: all that moves are axes of size 1."""
        if value.rank < 3:
            return False
        moving = [axis for axis in self.perm(value.rank) if value.shape[axis] != 1]
        return moving == sorted(moving)

    def absorbers(self, node: Node) -> list[Node]:
        """The fully connected layers that alone read a flattened value and can take the permutation into their weights."""
        x, y = next(node.operands()), node.output
        features = x.shape[1:]
        if x.rank < 3 or y.rank != 2 or y.shape[0] != x.shape[0] or not all(isinstance(dim, int) for dim in features):
            return []
        found: list[Node] = []
        pending = [y]
        while pending:
            value = pending.pop()
            if value in self.outputs:
                return []
            for user in self.users.get(value, []):
                if isinstance(user.op, Dropout | Relu):
                    pending.append(user.output)
                elif self._takes_features(user, value):
                    found.append(user)
                else:
                    return []
        return found

    def _takes_features(self, user: Node, value: Value) -> bool:
        if not isinstance(user.op, Linear | Gemm | MatMul) or user.inputs[0] is not value:
            return False
        weight = user.inputs[1]
        if weight is None or not weight.is_parameter or weight.rank != 2 or value in user.inputs[1:]:
            return False
        return not (isinstance(user.op, Gemm) and user.op.trans_a)

    def cost(self, value: Value) -> int:
        """Bytes moved by transposing a value; a symbolic size counts as 8. Where nothing moves a Reshape serves, for 1."""
        if self.is_still(value):
            return 1
        size = elements([_assumed(dim) for dim in value.shape])
        return max(int(size) * value.dtype.itemsize, 1)  # type: ignore[arg-type]

    def _join(self, value: Value) -> None:
        writer = self._writers[value]
        readers = [self._readers[user, value] for user in self.users.get(value, [])]
        if value in self.outputs and not self.native:
            readers.append(self._fixed())
        if not readers:
            return
        any_permuted, any_kept = self._cut.vertex(), self._cut.vertex()
        cost = self.cost(value)
        self._cut.edge(writer, any_permuted, cost)
        self._cut.edge(any_kept, writer, cost)
        for reader in readers:
            self._cut.edge(any_permuted, reader, CutGraph.INFINITE)
            self._cut.edge(reader, any_kept, CutGraph.INFINITE)


def _assumed(dim: Dim) -> Dim:
    return dim if isinstance(dim, int) else max(int(substitute(dim, dict.fromkeys(dim.names(), 8))), 1)  # type: ignore[arg-type]


def is_data(node: Node, value: Value) -> bool:
    """Whether an operand is permuted with the data: for windowed ops the first only (kernels have one order everywhere)."""
    return node.op.layout_rule is not LayoutRule.BOUND or value is node.inputs[0]


def data_rank(node: Node) -> int:
    """The rank whose axes a permutation of the node's data permutes: the largest of its operands that are no parameters."""
    if node.op.layout_rule is LayoutRule.BOUND:
        return next(node.operands()).rank
    ranks = [value.rank for value in node.operands() if not value.is_parameter]
    return max(ranks, default=max((value.rank for value in node.operands()), default=0))


class _Apply:
    """Rebuilds the graph after a plan."""

    def __init__(self, model: Model, plan: _Plan) -> None:
        self.model = model
        self.plan = plan
        self.b = Rewriter(model.graph)
        self._turned: dict[Value, Value] = {}  # old value -> the new value in permuted order
        self._derived: dict[tuple[Parameter, str], Parameter] = {}
        self._absorbed: dict[Node, Perm] = {}
        self._flat: dict[Node, tuple[int, ...]] = {}

    def run(self) -> Model:
        inputs = [self._input(value) for value in self.model.graph.inputs]
        for node in self.model.graph.nodes:
            self._node(node)
        outputs = []
        for name, value in self.model.graph.outputs.items():
            turned = self.plan.native and value not in self.b.mapping and value in self._turned
            self.b.output(name, self._turned[value] if turned else self._kept(value))
            outputs.append(_pair(name, self.plan.perm(value.rank) if turned else None))
        metadata = {**self.model.metadata, "isomorph.pairing": json.dumps({"inputs": inputs, "outputs": outputs})}
        return self.b.finish(dims=self.model.dims, metadata=metadata, source=self.model.source)

    def _input(self, value: Value) -> dict[str, object]:
        if value not in self.plan.permuted or value.rank < 3:
            self.b.mapping[value] = self.b.keep(self.b.input(value.name, value.dtype, value.shape), value.name)
            return _pair(value.name, None)
        perm = self.plan.perm(value.rank)
        shape = tuple(value.shape[axis] for axis in perm)
        self._turned[value] = self.b.keep(self.b.input(value.name, value.dtype, shape), value.name)
        return _pair(value.name, perm)

    def _node(self, node: Node) -> None:
        permuted = node in self.plan.permuted
        if isinstance(node.op, Transpose):
            self._transpose(node, permuted=permuted)
        elif isinstance(node.op, Reshape | Flatten):
            self._reshape(node, permuted=permuted)
        elif permuted:
            self._permuted(node)
        else:
            self.b.copy(node, inputs=[None if value is None else self._read(node, value) for value in node.inputs])

    def _permuted(self, node: Node) -> None:
        rank = data_rank(node)
        op = node.op.permuted(self.plan.perm(rank))
        assert op is not None
        aligned = node.op.layout_rule is LayoutRule.ELEMENTWISE
        inputs = [
            None if value is None else self._turn(value, rank, aligned=aligned) if is_data(node, value) else self._kept(value)
            for value in node.inputs
        ]
        with self.b.at(node.scope, node.origin.changed_by("layout")):
            made = self.b.emit_many(op, *inputs, regions=node.regions, node_name=node.name)
        for old, new in zip(node.outputs, made, strict=True):
            self.b.keep(new, old.name)
            if old.rank == rank:
                self._turned[old] = new
            else:
                self.b.mapping[old] = new

    def _transpose(self, node: Node, *, permuted: bool) -> None:
        assert isinstance(node.op, Transpose)
        x, y = next(node.operands()), node.output
        if permuted and node.op.perm == self.plan.perm(y.rank):
            self.b.mapping[y] = self._turn(x, x.rank)
        elif permuted:
            self._turned[y] = self._kept(x)
        else:
            self.b.copy(node, inputs=[self._kept(x)])

    def _reshape(self, node: Node, *, permuted: bool) -> None:
        x = next(node.operands())
        if not permuted:
            self.b.copy(node, inputs=[self._kept(x)])
            return
        if not self.plan.order_free(node):
            features = tuple(int(dim) for dim in x.shape[1:])  # type: ignore[arg-type]
            for user in self.plan.absorbers(node):
                self._absorbed[user], self._flat[user] = self.plan.perm(x.rank), features
        op = node.op
        if isinstance(op, Flatten) and op.axis != 1:
            op = Reshape(node.output.shape)
        self.b.copy(node, op, inputs=[self._turn(x, x.rank)])

    def _read(self, node: Node, value: Value) -> Value:
        """An operand of a node that keeps its order."""
        if node in self._absorbed and value is node.inputs[1]:
            return self._absorbing_weight(node, value)
        return self._kept(value)

    def _absorbing_weight(self, node: Node, weight: Value) -> Value:
        """The weight of a fully connected layer whose input features come in the permuted order."""
        perm, features = self._absorbed[node], self._flat[node]
        moved = tuple(axis - 1 for axis in perm[1:])
        parameter = weight.parameter
        assert parameter is not None
        inputs_last = isinstance(node.op, Linear) or (isinstance(node.op, Gemm) and node.op.trans_b)
        data = parameter.data
        if inputs_last:
            rows = data.shape[0]
            data = data.reshaped((rows, *features)).permuted((0, *(axis + 1 for axis in moved))).reshaped((rows, data.shape[1]))
        else:
            columns = data.shape[1]
            data = data.reshaped((*features, columns)).permuted((*moved, len(features))).reshaped((data.shape[0], columns))
        return self._derive(parameter, f"features {features}", lambda: replace(parameter, data=data))

    def _derive(self, parameter: Parameter, how: str, make: Callable[[], Parameter]) -> Value:
        """A parameter made from another one: the same one each time, under the same name if that is free."""
        key = (parameter, how)
        if key not in self._derived:
            self._derived[key] = make()
        return self.b.keep(self.b.parameter(self._derived[key]), parameter.name)

    def _kept(self, value: Value) -> Value:
        """The new value in the source's order."""
        if value in self.b.mapping or value.is_parameter:
            return self.b.new(value)
        turned = self._turned[value]
        made = self._emit_transpose(value, turned, inverse(self.plan.perm(value.rank)), self._other_layout())
        self.b.mapping[value] = made
        return made

    def _turn(self, value: Value, rank: int, *, aligned: bool = False) -> Value:
        """The new value in the permuted order; operands of other ranks stay, parameters of `aligned` ops are brought up."""
        if value.is_parameter and aligned:
            return self._turned_parameter(value, rank)
        if value.rank != rank:
            return self._kept(value)
        if value.is_parameter:
            return self._turned_parameter(value, rank)
        if value not in self._turned:
            kept = self.b.new(value)
            self._turned[value] = self._emit_transpose(value, kept, self.plan.perm(rank), self.plan.layout)
        return self._turned[value]

    def _turned_parameter(self, value: Value, rank: int) -> Value:
        parameter = value.parameter
        assert parameter is not None
        shape = (1,) * (rank - value.rank) + parameter.data.shape
        perm = self.plan.perm(rank)
        final = [shape[axis] for axis in perm]
        while value.rank < rank and len(final) > 1 and final[0] == 1:
            final = final[1:]
        if tuple(final) == parameter.data.shape and sum(size != 1 for size in final) <= 1:
            moving = [axis for axis in perm if shape[axis] != 1]
            if moving == sorted(moving):
                return self.b.new(value)
        data = parameter.data.reshaped(shape).permuted(perm).reshaped(final)
        return self._derive(parameter, f"rank {rank}", lambda: replace(parameter, data=data))

    def _emit_transpose(self, old: Value, new: Value, perm: Perm, layout: Layout) -> Value:
        node = old.producer or next(user for user in self.plan.users[old])
        with self.b.at(node.scope if old.producer else replace(node.scope, entries=()), node.origin.changed_by("layout")):
            still = self.plan.is_still(old)
            op = Reshape(tuple(new.shape[axis] for axis in perm)) if still else Transpose(perm)
            return self.b.emit(op, new, name=f"{old.name}_{layout}")

    def _other_layout(self) -> Layout:
        return Layout.CHANNELS_FIRST if self.plan.layout is Layout.CHANNELS_LAST else Layout.CHANNELS_LAST


def _pair(name: str, perm: Perm | None) -> dict[str, object]:
    return {"source": name, "target": name, "perm": None if perm is None else list(perm)}
