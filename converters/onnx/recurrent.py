"""Recurrent layers in ONNX.

ONNX packs the weights of a layer in three tensors: W (D, G * H, I), R (D, G * H, H), B (D, 2 * G * H), its gates in the
order of the op's `GATES`. In the IR they stand apart under their own names and in the order of their source. Weights of
the model are packed when the file is written, without a node; `isomorph.parts` and `isomorph.gates` in the metadata of
the packed tensor say what it was made of, and the reader takes it apart again.
See docs/decisions/0009-recurrent-weights.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode, parse_json
from isomorph.converters.onnx.rules import rules
from isomorph.ir import DerivedTensor, DType, Node, Parameter, TensorSource, Value, ops
from isomorph.ir.op import OPS

Rows: TypeAlias = tuple[int, int]
"""The rows of a direction's slice of a packed tensor that are one part: first and after the last."""


@rules.imports("LSTM", "GRU", "RNN")
def read_recurrent(node: OnnxNode) -> Sequence[Value]:
    kind = cast("type[ops.Recurrent]", OPS[node.kind])
    batch_first = bool(node.attribute("layout", 0))
    x, w, r = node.value(0), node.value(1), node.value(2)
    if w.rank != 3 or r.rank != 3 or not isinstance(r.shape[2], int):
        node.refuse("weights of unknown size")
    size, count = r.shape[2], len(kind.GATES) * r.shape[2]
    node.attribute("hidden_size")  # what the weights say
    node.attribute("output_sequence")  # before opset 7: whether Y is given
    direction = str(node.attribute("direction", "forward")).lower()
    gates = _noted_gates(node, kind, w.shape[0])
    order = [kind.GATES.index(letter) for letter in gates or kind.GATES]
    named: dict[str, Value | None] = {"x": x, "lengths": node.optional(4)}
    for place, suffix in enumerate(("", "_back") if direction == "bidirectional" else ("",)):
        named[f"w{suffix}"] = _part(node, 1, place, (0, count), order)
        named[f"r{suffix}"] = _part(node, 2, place, (0, count), order)
        named[f"b{suffix}"] = _part(node, 3, place, (0, count), order)
        named[f"rb{suffix}"] = _part(node, 3, place, (count, 2 * count), order)
        if kind is ops.LSTM:
            named[f"p{suffix}"] = _part(node, 7, place, (0, 3 * size), None)
    for state, position in zip(kind.STATES, (5, 6), strict=False):
        first = node.optional(position)
        named[state] = first if first is None or not batch_first else node.emit(ops.Transpose((1, 0, 2)), first)
    op = kind(direction, gates, batch_first, **_functions(node, kind), **_special(node))  # type: ignore[arg-type]
    operands = [named.get(name.rstrip("?")) for name in kind.inputs]
    y, *states = node.graph.builder.emit_many(op, *operands)
    if batch_first:
        states = [node.emit(ops.Transpose((1, 0, 2)), state) for state in states]
    return [_apart(node, y, op) if node.outputs[0] else y, *states]


def _special(node: OnnxNode) -> dict[str, bool]:
    key = {"LSTM": "input_forget", "GRU": "linear_before_reset"}.get(node.kind)
    return {} if key is None else {key: bool(node.attribute(key, 0))}


def _functions(node: OnnxNode, kind: type[ops.Recurrent]) -> dict[str, Any]:
    """The functions by their names in the IR. Their parameters are listed for those that have them, in order."""
    clip = node.attribute("clip")
    found: dict[str, Any] = {"clip": None if clip is None else float(clip)}
    names = {name.lower(): name for name in ops.ACTIVATIONS}
    listed = [names.get(str(name).lower(), str(name)) for name in node.attribute("activations", ())]
    given = [list(node.attribute(f"activation_{letter}", ())) for letter in ("alpha", "beta")]
    if not listed:
        if any(given):
            node.refuse("parameters of functions that are not named")
        return found
    unknown = [name for name in listed if name not in ops.ACTIVATIONS]
    if unknown:
        node.refuse(f"the function {unknown[0]}")
    if tuple(listed) != kind.FUNCTIONS * (len(listed) // len(kind.FUNCTIONS)):
        found["activations"] = tuple(listed)
    for place, key in enumerate(("alphas", "betas")):
        values = []
        for name in listed:
            defaults = ops.ACTIVATIONS[name][0]
            takes = len(defaults) > place
            values.append(float(given[place].pop(0)) if takes and given[place] else defaults[place] if takes else 0.0)
        if any(len(ops.ACTIVATIONS[name][0]) > place for name in listed):
            found[key] = tuple(values)
    return found


def _noted_gates(node: OnnxNode, kind: type[ops.Recurrent], directions: Any) -> str:
    """The order of the gates before the weights were packed, where all of them tell it."""
    found = {
        node.graph.notes.get(node.inputs[place], {}).get("isomorph.gates", "") for place in (1, 2, 3) if node.has(place)
    }
    gates = found.pop()
    return gates if not found and sorted(gates) == sorted(kind.GATES) and gates != kind.GATES else ""


def _part(node: OnnxNode, position: int, place: int, rows: Rows, order: Sequence[int] | None) -> Value | None:
    """The rows of one direction of a packed operand; of a weight a lazy view, gates in `order`."""
    if not node.has(position):
        return None
    name = node.inputs[position]
    packed = node.graph.constants.get(name)
    if packed is None or name in node.graph.perms:
        return _computed_part(node, node.value(position), place, rows, order)
    key = (name, place, rows)
    if key not in node.graph.parts:
        node.graph.parts[key] = _view(node, packed, place, rows, order)
    part = node.graph.parts[key]
    return None if part is None else node.graph.builder.parameter(part)


def _view(node: OnnxNode, packed: Parameter, place: int, rows: Rows, order: Sequence[int] | None) -> Parameter | None:
    data, (first, end) = packed.data, rows
    if len(data.shape) not in (2, 3) or not place < data.shape[0] or data.shape[1] < end:
        node.refuse(f"a weight of shape {list(data.shape)}")
    index = np.arange(first, end)
    if order is not None:
        index = index.reshape(len(order), -1)[list(order)].reshape(-1)
    plain = bool(np.all(np.diff(index) == 1)) if len(index) else True
    taken = slice(first, end) if plain else index
    view = DerivedTensor(data.dtype, (end - first, *data.shape[2:]), (data,), lambda array: array[place][taken])
    parts = -(-data.shape[1] // (end - first)) if end > first else 1
    noted = _noted_parts(node, packed.name, data.shape[0] * parts)
    if noted is None:
        direction = ("", ".backward")[place] if data.shape[0] > 1 else ""
        half = ("", ".recurrent")[first > 0]
        return Parameter(f"{packed.name}{direction}{half}", view, packed.trainable, packed.role)
    about = noted[place * parts + (first > 0)]
    return None if about is None else Parameter(str(about[0]), view, bool(about[1]), str(about[2]))


def _noted_parts(node: OnnxNode, name: str, count: int) -> list[Any] | None:
    """What the file says of the parts of a packed tensor: [name, trainable, role] or None (absent) for each."""
    stated = parse_json(node.graph.notes.get(name, {}).get("isomorph.parts", ""))
    if not isinstance(stated, list) or len(stated) != count:
        return None

    def good(part: Any) -> bool:
        return part is None or (
            isinstance(part, list)
            and len(part) == 3
            and isinstance(part[0], str)
            and part[2] in ("weight", "buffer", "constant")
        )

    return stated if all(map(good, stated)) else None


def _computed_part(node: OnnxNode, packed: Value, place: int, rows: Rows, order: Sequence[int] | None) -> Value:
    one = packed
    if packed.shape[0] != 1:
        one = node.emit(ops.Slice((0,), (place,), (place + 1,), (1,)), packed)
    one = node.emit(ops.Squeeze((0,)), one)
    if one.shape[0] != rows[1] - rows[0]:
        one = node.emit(ops.Slice((0,), (rows[0],), (rows[1],), (1,)), one)
    return one


def _apart(node: OnnxNode, y: Value, op: ops.Recurrent) -> Value:
    """y with an axis for the directions: (T, D, N, H), or (N, T, D, H) if batch_first."""
    if op.direction != "bidirectional":
        return node.emit(ops.Unsqueeze((2 if op.batch_first else 1,)), y)
    apart = node.emit(ops.Reshape((*y.shape[:2], 2, y.shape[2] // 2)), y)
    return apart if op.batch_first else node.emit(ops.Transpose((0, 2, 1, 3)), apart)


@rules.exports(ops.LSTM, ops.GRU, ops.RNN)
def write_recurrent(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Recurrent)
    named: dict[str, Value | None] = op.operands(node.inputs)  # type: ignore[assignment]
    ways = [suffix for suffix, _ in op.directions]
    order = [op.order.index(letter) for letter in op.GATES]
    w, r = (_pack(export, op, [[named[key + suffix]] for suffix in ways], order) for key in "wr")
    b = _pack(export, op, [[named[f"b{suffix}"], named[f"rb{suffix}"]] for suffix in ways], order)
    p = _pack(export, op, [[named[f"p{suffix}"]] for suffix in ways], None) if isinstance(op, ops.LSTM) else ""
    lengths = named["lengths"]
    counts = lengths if lengths is None or lengths.dtype is DType.INT32 else export.cast(lengths, DType.INT32)
    inputs = [_time_major(export, node), w, r, b, counts, named["h"], named.get("c"), p]
    units = named["w"]
    assert units is not None
    size = int(units.shape[0]) // len(op.GATES)  # type: ignore[arg-type]
    y = node.outputs[0]
    apart = export.fresh(f"{export.name(y)}.apart") if export.is_read(y) else ""
    outputs = [apart, *(state if export.is_read(state) else "" for state in node.outputs[1:])]
    while not outputs[-1]:
        outputs.pop()
    export.emit(op.name, inputs, outputs, hidden_size=size, **_attributes(op))
    if apart:
        _join(export, op, y, apart, len(ways) * size)


def _attributes(op: ops.Recurrent) -> dict[str, Any]:
    """The attributes that differ from ONNX's defaults."""
    found: dict[str, Any] = {"clip": op.clip}
    if op.direction != "forward":
        found["direction"] = op.direction
    for key in ("input_forget", "linear_before_reset"):
        if getattr(op, key, False):
            found[key] = 1
    if op.activations or op.alphas or op.betas:
        count = len(op.FUNCTIONS)
        functions = [each for place in range(len(op.directions)) for each in op.functions(place)]
        assert len(functions) == count * len(op.directions)
        found["activations"] = [name for name, _ in functions]
        found["activation_alpha"] = [values[0] for _, values in functions if values] or None
        found["activation_beta"] = [values[1] for _, values in functions if len(values) > 1] or None
    return found


def _time_major(export: Export, node: Node) -> Value | str:
    """The data of a layer as (T, N, I)."""
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.Recurrent) and x is not None
    if not op.batch_first:
        return x
    if x not in export.time_major:
        export.time_major[x] = export.emit("Transpose", [x], perm=(1, 0, 2))
    return export.time_major[x]


def _join(export: Export, op: ops.Recurrent, y: Value, apart: str, width: int) -> None:
    """Y (T, D, N, H) as y (T, N, D * H), or (N, T, D * H) if batch_first; for a next layer of that order both."""
    users = export.users.get(y, [])
    stacked = [
        user for user in users if isinstance(user.op, ops.Recurrent) and user.op.batch_first and user.inputs[0] is y
    ]
    shown = y in export.outputs or any(y in user.inputs[1:] or user not in stacked for user in users)
    single = op.direction != "bidirectional"
    if single and (stacked or op.batch_first):
        first = export.emit("Squeeze", [apart, export.ints([1], "axes")])
        export.time_major[y] = first
        if shown:
            export.emit("Transpose", [first], [y], perm=(1, 0, 2))
    elif single:
        export.emit("Squeeze", [apart, export.ints([1], "axes")], [y])
    else:
        shape = export.ints([0, 0, width], "joined")
        if op.batch_first and stacked:
            moved = export.emit("Transpose", [apart], perm=(0, 2, 1, 3))
            export.time_major[y] = export.emit("Reshape", [moved, shape])
        if shown or not op.batch_first:
            moved = export.emit("Transpose", [apart], perm=(2, 0, 1, 3) if op.batch_first else (0, 2, 1, 3))
            export.emit("Reshape", [moved, shape], [y])


def _pack(
    export: Export, op: ops.Recurrent, ways: Sequence[Sequence[Value | None]], order: Sequence[int] | None
) -> str:
    """The parts of all directions as one operand: (D, rows, …), gates in the order of ONNX; "" where all are absent."""
    parts = [part for way in ways for part in way]
    given = [part for part in parts if part is not None]
    if not given:
        return ""
    if all(part.parameter is not None for part in given):
        return _packed_weight(export, op, ways, order)
    made = []
    for way in ways:
        rows = [_reordered(export, part, given[0], order) for part in way]
        joined = rows[0] if len(rows) == 1 else export.emit("Concat", rows, axis=0)
        made.append(export.emit("Unsqueeze", [joined, export.ints([0], "axes")]))
    return made[0] if len(made) == 1 else export.emit("Concat", made, axis=0)


def _gate_rows(count: int, order: Sequence[int] | None) -> Any:
    """The rows of a part in the order of ONNX, None where they are."""
    if order is None or list(order) == sorted(order):
        return None
    return np.arange(count, dtype=np.int64).reshape(len(order), -1)[list(order)].reshape(-1)


def _reordered(export: Export, part: Value | None, like: Value, order: Sequence[int] | None) -> Value | str:
    if part is None:
        return export.constant(np.zeros([int(size) for size in like.shape], like.dtype.numpy), "zeros")  # type: ignore[arg-type]
    rows = _gate_rows(int(part.shape[0]), order)  # type: ignore[arg-type]
    return part if rows is None else export.emit("Gather", [part, export.constant(rows, "gates")], axis=0)


def _packed_weight(
    export: Export, op: ops.Recurrent, ways: Sequence[Sequence[Value | None]], order: Sequence[int] | None
) -> str:
    parts = [part for way in ways for part in way]
    given = [part for part in parts if part is not None]
    like = given[0].parameter
    assert like is not None
    rows = _gate_rows(like.data.shape[0], order)
    sources = [None if part is None or part.parameter is None else part.parameter.data for part in parts]
    notes = {"isomorph.parts": json.dumps([_about(part) for part in parts], ensure_ascii=False, separators=(",", ":"))}
    if rows is not None:
        notes["isomorph.gates"] = op.order
    data = _stacked(sources, like.data, len(ways), rows)
    return export.pack((tuple(parts), tuple(order or ())), given, data, notes)


def _about(part: Value | None) -> list[Any] | None:
    if part is None or part.parameter is None:
        return None
    return [part.parameter.name, part.parameter.trainable, part.parameter.role]


def _stacked(sources: Sequence[TensorSource | None], like: TensorSource, directions: int, rows: Any) -> TensorSource:
    present = [source for source in sources if source is not None]
    halves = len(sources) // directions
    shape = (directions, halves * like.shape[0], *like.shape[1:])

    def compute(*arrays: Any) -> Any:
        found = iter(arrays)
        blocks = [np.zeros(like.shape, like.dtype.numpy) if source is None else next(found) for source in sources]
        ordered = [block if rows is None else block[rows] for block in blocks]
        return np.concatenate(ordered).reshape(shape)

    if len(sources) == 1 and rows is None:
        return like.reshaped(shape)
    return DerivedTensor(like.dtype, shape, present, compute)
