"""Decides which values of a graph are permuted: the minimum cut behind passes/layout.py.

source side of the cut = as it is, sink side = permuted
a node is one vertex; a value joins its producer and its users through two vertices, so that however many users
read it in the other order it is transposed once
"""

from __future__ import annotations

from collections.abc import Callable

from isomorph.ir.graph import Graph, Node, Value
from isomorph.ir.layout import Layout, LayoutRule, Perm, inverse, to_channels_first, to_channels_last
from isomorph.ir.op import TensorType
from isomorph.ir.ops.activation import Dropout, Relu
from isomorph.ir.ops.linear import Gemm, Linear, MatMul
from isomorph.ir.ops.shape import Flatten, Reshape, Transpose
from isomorph.ir.passes.mincut import CutGraph
from isomorph.ir.shapes import Dim, elements, substitute

__all__ = ["Plan", "Refuse", "data_rank", "is_data"]

Refuse = Callable[[Node], str | None]


class Plan:
    """The cheapest assignment: `permuted` holds the nodes and inputs whose data is permuted."""

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
        elif self.keeps_channels(node):
            pass
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
            same_rank = value.rank == data_rank(node) or self.keeps_channels(node)
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
            return all(
                value.rank == rank or value.is_parameter or elements(value.shape) == 1 for value in node.operands()
            )
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

    def keeps_channels(self, node: Node) -> bool:
        """Whether a reshape only merges or splits spatial axes: (N, C, *D) to (N, C, *D'), in either order."""
        if not isinstance(node.op, Reshape):
            return False
        x, y = next(node.operands()), node.output
        if min(x.rank, y.rank) < 3 or x.is_parameter:
            return False
        channel = 1 if self.layout is Layout.CHANNELS_LAST else -1
        return x.shape[0] == y.shape[0] and x.shape[channel] == y.shape[channel]

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
        """The fully connected layers that alone read a flattened value, if their weights can take the permutation."""
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
        """Bytes moved by transposing a value, a symbolic size counted as 8; 1 where a Reshape can do it."""
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
    """Whether an operand is permuted with the data: of windowed ops the first only, as kernels have one order."""
    return node.op.layout_rule is not LayoutRule.BOUND or value is node.inputs[0]


def data_rank(node: Node) -> int:
    """The rank of the node's data: the largest among its operands that are no parameters."""
    if node.op.layout_rule is LayoutRule.BOUND:
        return next(node.operands()).rank
    ranks = [value.rank for value in node.operands() if not value.is_parameter]
    return max(ranks, default=max((value.rank for value in node.operands()), default=0))
