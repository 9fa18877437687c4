"""Branches and loops in ONNX. A subgraph there reads the values around it by name; in the IR they are operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, helper

from isomorph.converters.onnx.codec import value_info
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import Body, OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.errors import MalformedError
from isomorph.ir import Dim, DType, Node, OpaqueType, Region, Sym, TensorType, Value, ops
from isomorph.ir.op import normalize_axis

FOREVER = int(np.iinfo(np.int64).max)
"""The trip count of a loop that only its condition ends."""


@rules.imports("If")
def read_if(node: OnnxNode) -> Sequence[Value]:
    condition = node.value(0)
    then, other = (node.body(name, ()) for name in ("then_branch", "else_branch"))
    count = len(node.outputs)
    pairs = list(zip(_results(then), _results(other), strict=True))
    if len(pairs) != count:
        raise MalformedError("If needs two branches with its outputs", at=node.where)
    decided: list[str] = []
    types = tuple(_joined(node, left.type, right.type, decided) for left, right in pairs)
    regions, operands = _with_operands(node, [then, other])
    op = ops.If(types, tuple(decided))
    return node.graph.builder.emit_many(op, condition, *operands, regions=regions)


def _results(body: Body) -> list[Value]:
    return list(body.region.outputs.values())


def _joined(node: OnnxNode, left: TensorType, right: TensorType, decided: list[str]) -> TensorType:
    """The type of a result of two branches: a size in which they differ is a new dimension."""
    _require_tensors(node, left, right)
    if left.dtype is not right.dtype:
        raise MalformedError(f"a branch gives {left}, the other one {right}", at=node.where)
    if left.rank != right.rank:
        node.refuse(f"its branches give tensors of {left.rank} and {right.rank} axes")
    dims = (
        a if a == b and _is_known_outside(node, a) else _new_dim(node, "branch", decided)
        for a, b in zip(left.shape, right.shape, strict=True)
    )
    return TensorType(left.dtype, tuple(dims))


def _require_tensors(node: OnnxNode, *kinds: TensorType) -> None:
    for kind in kinds:
        if isinstance(kind, OpaqueType):
            node.refuse(f"a value of its body is {kind}")


def _is_known_outside(node: OnnxNode, dim: Dim) -> bool:
    return not isinstance(dim, Sym) or dim.names() <= node.graph.dims()


def _new_dim(node: OnnxNode, hint: str, decided: list[str]) -> Sym:
    dim = node.graph.new_dim(hint)
    decided.extend(dim.names())
    return dim


def _with_operands(node: OnnxNode, bodies: Sequence[Body]) -> tuple[list[Region], list[Value]]:
    """The regions with the same inputs for what they read from around them, and these operands."""
    operands: dict[Value, str] = {}
    for body in bodies:
        body.drop_unread()
        operands.update((outer, inner.name) for outer, inner in body.captured.items())
    _require_tensors(node, *(outer.type for outer in operands))
    for body in bodies:
        for outer in operands:
            if outer not in body.captured:
                body.capture(outer)
        formal = body.region.inputs[: body.formal]
        body.region.inputs[:] = [*formal, *(body.captured[outer] for outer in operands)]
    return [body.region for body in bodies], list(operands)


@rules.imports("Loop")
def read_loop(node: OnnxNode) -> Sequence[Value]:
    b = node.graph.builder
    trips = _scalar(node, 0, FOREVER, DType.INT64)
    going = _scalar(node, 1, True, DType.BOOL)
    initial = [node.value(position) for position in range(2, len(node.inputs))]
    bounds = [TensorType(DType.INT64, ()), TensorType(DType.BOOL, ())]
    body, carried = _settled(node, bounds, [value.type for value in initial], first=1)
    decided: list[str] = []
    count = _trip_count(node, body) if body.region.outputs else None
    length = _new_dim(node, "turns", decided) if count is None else count
    results = [value.type for value in _results(body)[1:]]
    types = [_outside(node, kind, decided) for kind in carried]
    types += [
        _outside(node, TensorType(kind.dtype, (length, *kind.shape)), decided, keep=length)
        for kind in results[len(initial) :]
    ]
    regions, operands = _with_operands(node, [body])
    op = ops.Loop(tuple(types), len(initial), tuple(decided))
    return b.emit_many(op, trips, going, *initial, *operands, regions=regions)


def _outside(node: OnnxNode, kind: TensorType, decided: list[str], keep: Dim | None = None) -> TensorType:
    """The type as it is known around the body: sizes that only the body knows are new dimensions."""
    dims = (
        dim if dim == keep or _is_known_outside(node, dim) else _new_dim(node, "loop", decided) for dim in kind.shape
    )
    return TensorType(kind.dtype, tuple(dims))


def _scalar(node: OnnxNode, position: int, default: int | bool, dtype: DType) -> Value:
    b = node.graph.builder
    if not node.has(position):
        return b.constant(np.asarray(default, dtype.numpy), "bound")
    value = node.value(position)
    return value if value.rank == 0 else b.emit(ops.Reshape(()), value)


def _settled(
    node: OnnxNode, bounds: list[TensorType], initial: list[TensorType], first: int
) -> tuple[Body, list[TensorType]]:
    """The body, read with types of the loop variables that it keeps: sizes that it changes are symbolic in it."""
    carried = list(initial)
    for _ in range(_MOST_TRIES):
        body = node.body("body", [*bounds, *carried])
        found = [value.type for value in _results(body)[first : first + len(initial)]]
        if len(found) != len(initial):
            raise MalformedError(f"{node.kind} has {len(initial)} variables, its body {len(found)}", at=node.where)
        widened = [_widened(node, kind, made) for kind, made in zip(carried, found, strict=True)]
        if widened == carried:
            return body, carried
        body.forget()
        carried = widened
    return node.refuse("the shapes of its variables do not settle")


_MOST_TRIES = 4


def _widened(node: OnnxNode, kind: TensorType, made: TensorType) -> TensorType:
    _require_tensors(node, kind, made)
    if kind.dtype is not made.dtype:
        raise MalformedError(f"a loop variable is {kind} and becomes {made}", at=node.where)
    if kind.rank != made.rank:
        node.refuse(f"a loop variable of {kind.rank} axes becomes one of {made.rank}")
    own = node.graph.dims()
    dims = [
        a if a == b or (isinstance(a, Sym) and not a.names() <= own) else node.graph.new_dim("turn")
        for a, b in zip(kind.shape, made.shape, strict=True)
    ]
    return TensorType(kind.dtype, tuple(dims))


def _trip_count(node: OnnxNode, body: Body) -> int | None:
    """How often the body runs, if that is certain: a known count, and a condition that stays True."""
    known = node.graph.known(node.inputs[0]) if node.has(0) else None
    start = node.graph.known(node.inputs[1]) if node.has(1) else np.asarray(True, object)
    if known is None or start is None or isinstance(known.item(), Sym) or not bool(start.item()):
        return None
    going = _results(body)[0]
    while going.producer is not None and isinstance(going.producer.op, ops.Identity):
        going = next(going.producer.operands())
    constant = going.parameter is not None and bool(going.parameter.data.numpy().item())
    return max(0, int(known.item())) if constant or going is body.region.inputs[1] else None


@rules.imports("Scan")
def read_scan(node: OnnxNode) -> Sequence[Value]:
    batched = node.opset < 9
    values = _one_of_a_batch(node) if batched else [node.value(position) for position in range(len(node.inputs))]
    scanned = int(node.attribute("num_scan_inputs"))
    carried = len(values) - scanned
    if not 0 < scanned <= len(values):
        raise MalformedError(f"{len(values)} operands, {scanned} of them scanned", at=node.where)
    listed = [node.attribute(f"scan_{what}", []) for what in _SCAN_LISTS]
    if batched:
        listed[1] = node.attribute("directions", [])
    axes = [
        normalize_axis(axis, value.rank)
        for axis, value in zip(listed[0] or [0] * scanned, values[carried:], strict=True)
    ]
    slices = [
        TensorType(value.dtype, (*value.shape[:axis], *value.shape[axis + 1 :]))
        for axis, value in zip(axes, values[carried:], strict=True)
    ]
    body = node.body("body", [*(value.type for value in values[:carried]), *slices])
    results = [value.type for value in _results(body)]
    stacked = len(results) - carried
    if stacked < 0 or any(
        _widened(node, value.type, kind) != value.type
        for value, kind in zip(values[:carried], results[:carried], strict=True)
    ):
        node.refuse("its variables change their shapes")
    length = values[carried].shape[axes[0]]
    out_axes = [
        normalize_axis(axis, kind.rank + 1)
        for axis, kind in zip(listed[2] or [0] * stacked, results[carried:], strict=True)
    ]
    decided: list[str] = []
    types = [value.type for value in values[:carried]] + [
        _outside(node, TensorType(kind.dtype, (*kind.shape[:axis], length, *kind.shape[axis:])), decided)
        for axis, kind in zip(out_axes, results[carried:], strict=True)
    ]
    regions, operands = _with_operands(node, [body])
    back, out_back = (
        tuple(bool(item) for item in listed[index] or [0] * count) for index, count in ((1, scanned), (3, stacked))
    )
    op = ops.Scan(tuple(types), carried, scanned, tuple(axes), tuple(out_axes), back, out_back, tuple(decided))
    made = node.graph.builder.emit_many(op, *values, *operands, regions=regions)
    return [node.emit(ops.Unsqueeze((0,)), value) for value in made] if batched else made


def _one_of_a_batch(node: OnnxNode) -> list[Value]:
    """The operands of Scan-8, which all have a first axis for a batch, without that axis where its length is 1."""
    if node.has(0):
        node.refuse("the lengths of the sequences of a batch differ")
    values = [node.value(position) for position in range(1, len(node.inputs))]
    if any(value.rank == 0 or value.shape[0] != 1 for value in values):
        node.refuse("it has a batch axis of more than 1 before opset 9")
    return [node.emit(ops.Squeeze((0,)), value) for value in values]


_SCAN_LISTS = ("input_axes", "input_directions", "output_axes", "output_directions")


@rules.exports(ops.If)
def write_if(export: Export, node: Node) -> None:
    condition, *operands = node.operands()
    then, other = (write_region(export, region, operands, 0) for region in node.regions)
    export.replace("If", node, inputs=[condition], then_branch=then, else_branch=other)


@rules.exports(ops.Loop)
def write_loop(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Loop)
    trips, going, *operands = node.operands()
    body = write_region(export, node.regions[0], operands[op.carried :], 2 + op.carried)
    export.replace("Loop", node, inputs=[trips, going, *operands[: op.carried]], body=body)


@rules.exports(ops.Scan)
def write_scan(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Scan)
    operands = list(node.operands())
    formal = op.carried + op.scanned
    body = write_region(export, node.regions[0], operands[formal:], formal)
    stated = zip(_SCAN_LISTS, (op.axes, op.reverse, op.output_axes, op.output_reverse), strict=True)
    lists = {f"scan_{name}": list(map(int, values)) for name, values in stated if any(values)}
    export.replace("Scan", node, inputs=operands[:formal], num_scan_inputs=op.scanned, body=body, **lists)


def write_region(export: Export, region: Region, outer: Sequence[Value], formal: int) -> GraphProto:
    """A region as a subgraph: its first `formal` inputs are the subgraph's, the others are read as `outer` by name."""
    for value in (*region.inputs[:formal], *(value for node in region.nodes for value in node.outputs)):
        export.names[value] = export.fresh(value.name)
    for value, given in zip(region.inputs[formal:], outer, strict=True):
        export.names[value] = export.name(given)
    with export.inside(region.inputs[:formal]):
        for node in region.nodes:
            rule: Callable[..., None] | None = rules.exporter(type(node.op))
            assert rule is not None, node.op
            export.begin(node)
            rule(export, node)
        results = _write_results(export, region)
        nodes = list(export.nodes)
    made, shown = {name for node in nodes for name in node.output}, set(results)
    infos = [
        _info(export.name(value), value)
        for node in region.nodes
        for value in node.outputs
        if export.name(value) in made and export.name(value) not in shown
    ]
    inputs = [_info(export.name(value), value) for value in region.inputs[:formal]]
    outputs = [_info(name, value) for name, value in zip(results, region.outputs.values(), strict=True)]
    return helper.make_graph(nodes, export.fresh(region.name), inputs, outputs, value_info=infos)


def _write_results(export: Export, region: Region) -> list[str]:
    """Names of the results: each is made by a node in the subgraph, and different from the others."""
    made = {name for node in export.nodes for name in node.output}
    results: list[str] = []
    for value in region.outputs.values():
        name = export.name(value)
        if name not in made or name in results:
            name = export.emit("Identity", [name])
        results.append(name)
    return results


def _info(name: str, value: Value) -> Any:
    return value_info(name, value.type)
