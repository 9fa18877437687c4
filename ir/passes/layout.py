"""Lays a model out for a target: which values keep the source's axis order and which get the target's.

Every value of rank 3 or more is either *as it is* or *permuted* (to channels-last for a channels-last target, to
channels-first for the other). Windowed ops demand the target's layout, ops like Reshape demand the order that they were
built with, most ops take either. Transposing a value costs the bytes moved; the cheapest assignment is a minimum cut
(layout_plan.py).

Parameters permute for free (a lazy view). A Flatten that only fully connected layers read is free too: the permutation
goes into their weights. A Transpose in the source that does what the permutation does disappears.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from isomorph.ir.builder import Rewriter
from isomorph.ir.graph import Model, Node, Region, Value
from isomorph.ir.layout import Layout, LayoutRule, Perm, inverse
from isomorph.ir.ops.linear import Gemm, Linear
from isomorph.ir.ops.shape import Flatten, Reshape, Transpose
from isomorph.ir.params import Parameter
from isomorph.ir.passes.layout_plan import Plan, Refuse, data_rank, is_data

__all__ = ["assign_layout", "is_in_layout", "keep_layout"]


def assign_layout(model: Model, layout: Layout, refuse: Refuse, *, native: bool = False) -> Model:
    """The model with windowed ops in `layout` and as few bytes transposed as possible.

    refuse   why the target cannot take a node as it is: decides between two orders where only one is taken
    native   inputs and outputs may change their axis order too; otherwise the signature stays
    The result's metadata "isomorph.pairing" says how its signature relates to the source's.
    """
    plan = Plan(model.graph, layout, refuse, native=native)
    return _Apply(model, plan).run()


def is_in_layout(model: Model, layout: Layout) -> bool:
    """Whether every windowed op is in this layout as it is."""
    return all(getattr(node.op, "layout", layout) is layout for node in model.nodes())


def keep_layout(model: Model) -> Model:
    """The model with nothing moved, and metadata "isomorph.pairing" that say so."""
    inputs = [_pair(value.name, None) for value in model.graph.inputs]
    return model.with_graph(model.graph, _paired(model, inputs, [_pair(name, None) for name in model.graph.outputs]))


def _paired(model: Model, inputs: list[dict[str, object]], outputs: list[dict[str, object]]) -> dict[str, str]:
    return {**model.metadata, "isomorph.pairing": json.dumps({"inputs": inputs, "outputs": outputs})}


class _Apply:
    """Rebuilds the graph after a plan."""

    def __init__(self, model: Model, plan: Plan, derived: dict[tuple[Parameter, str], Parameter] | None = None) -> None:
        self.model = model
        self.plan = plan
        self.b = Rewriter(model.graph)
        self._turned: dict[Value, Value] = {}  # old value -> the new value in permuted order
        self._derived = {} if derived is None else derived
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
        return self.model.with_graph(self.b.graph, _paired(self.model, inputs, outputs))

    def _input(self, value: Value) -> dict[str, object]:
        if value not in self.plan.permuted or value.rank < 3:
            self.b.mapping[value] = self.b.keep(self.b.input_of(value.name, value.type), value.name)
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
            inputs = [None if value is None else self._read(node, value) for value in node.inputs]
            self.b.copy(node, inputs=inputs, regions=list(map(self._region, node.regions)))

    def _region(self, region: Region) -> Region:
        """A body laid out for itself: its inputs and results keep the source's order."""
        plan = Plan(region, self.plan.layout, self.plan.refuse, native=False)
        return _Apply(self.model.with_graph(region), plan, self._derived).run().graph  # type: ignore[return-value]

    def _permuted(self, node: Node) -> None:
        rank = data_rank(node)
        op = node.op.permuted(self.plan.perm(rank))
        assert op is not None
        aligned = node.op.layout_rule is LayoutRule.ELEMENTWISE
        inputs = [
            None
            if value is None
            else self._turn(value, rank, aligned=aligned)
            if is_data(node, value)
            else self._kept(value)
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
        if self.plan.keeps_channels(node):
            y = node.output
            with self.b.at(node.scope, node.origin.changed_by("layout")):
                made = self.b.emit(
                    Reshape(tuple(y.shape[axis] for axis in self.plan.perm(y.rank))), self._turn(x, x.rank)
                )
            self._turned[y] = self.b.keep(made, y.name)
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
            data = (
                data.reshaped((rows, *features))
                .permuted((0, *(axis + 1 for axis in moved)))
                .reshaped((rows, data.shape[1]))
            )
        else:
            columns = data.shape[1]
            data = (
                data.reshaped((*features, columns)).permuted((*moved, len(features))).reshaped((data.shape[0], columns))
            )
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
        """The new value in the permuted order. Operands of other ranks stay, parameters of `aligned` ops join in."""
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
        with self.b.at(
            node.scope if old.producer else replace(node.scope, entries=()), node.origin.changed_by("layout")
        ):
            still = self.plan.is_still(old)
            op = Reshape(tuple(new.shape[axis] for axis in perm)) if still else Transpose(perm)
            return self.b.emit(op, new, name=f"{old.name}_{layout}")

    def _other_layout(self) -> Layout:
        return Layout.CHANNELS_FIRST if self.plan.layout is Layout.CHANNELS_LAST else Layout.CHANNELS_LAST


def _pair(name: str, perm: Perm | None) -> dict[str, object]:
    return {"source": name, "target": name, "perm": None if perm is None else list(perm)}
