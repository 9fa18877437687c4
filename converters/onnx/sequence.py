"""Sequences of tensors, as far as their lengths and positions are known when reading: then they are tensors.

    SequenceAt(SplitToSequence(x, sizes), position)     ->  Slice(x)
    SequenceAt(SequenceConstruct(x, y, …), position)    ->  x, y, …

Every other operator on sequences is kept as the file states it (preserved.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Dim, OpaqueType, Sym, TensorType, Value, ops
from isomorph.ir.op import normalize_axis
from isomorph.ir.ops.preserved import Stated

__all__: list[str] = []


@rules.imports("SplitToSequence")
def read_split_to_sequence(node: OnnxNode) -> Value:
    """The sequence, where the sizes of its pieces are known."""
    x = node.value(0)
    axis, keepdims = node.axis(x.rank, 0), int(node.attribute("keepdims", 1))
    sizes = _pieces(x.shape[axis], node.optional(1)) if node.has(1) or keepdims == 1 else None
    if sizes is None:
        node.refuse("the sizes of the pieces are not known")
    each: Dim = sizes[0] if sizes and len(set(sizes)) == 1 else Sym("any")
    kind = OpaqueType.of("sequence", TensorType(x.dtype, (*x.shape[:axis], each, *x.shape[axis + 1 :])))
    stated = (Stated("axis", "int", axis), Stated("keepdims", "int", keepdims))
    op = ops.Preserved("SplitToSequence", "", node.opset, (kind,), stated, reason="sequences of tensors are kept")
    return node.emit(op, x, *(() if node.optional(1) is None else (node.optional(1),)))


@rules.imports("SequenceAt")
def read_sequence_at(node: OnnxNode) -> Value:
    maker, position = node.value(0).producer, _position(node)
    if maker is None or not isinstance(maker.op, ops.Preserved) or maker.op.domain:
        node.refuse("it is not known what the sequence is made of")
    operands = maker.inputs
    if maker.op.kind == "SequenceConstruct" and -len(operands) <= position < len(operands):
        element = operands[position]
        if element is not None and not isinstance(element.type, OpaqueType):
            return node.emit(ops.Identity(), element)
    if maker.op.kind != "SplitToSequence":
        node.refuse("it is not known what the sequence is made of")
    x = operands[0]
    stated = {each.name: each.value for each in maker.op.stated}
    if x is None or x.dtype != node.value(0).dtype or (len(operands) == 1 and stated.get("keepdims", 1) != 1):
        node.refuse("the sizes of the pieces are not known")
    axis = normalize_axis(stated.get("axis", 0), x.rank)
    sizes = _pieces(x.shape[axis], operands[1] if len(operands) > 1 else None)
    if sizes is None or not -len(sizes) <= position < len(sizes):
        node.refuse("the sizes of the pieces are not known")
    start = sum(sizes[: position % len(sizes)])
    return node.emit(ops.Slice((axis,), (start,), (start + sizes[position],), (1,)), x)


def _position(node: OnnxNode) -> int:
    known = node.graph.known(node.inputs[1]) if node.has(1) else None
    if known is None or known.size != 1 or isinstance(known.item(), Sym):
        node.refuse("the position is not known")
    return int(known.item())


def _pieces(size: Dim, split: Value | None) -> Sequence[int] | None:
    """The sizes of the pieces along the axis: of 1, of a number, the last one smaller, or as listed."""
    if isinstance(size, Sym) or (split is not None and split.parameter is None):
        return None
    if split is not None and split.parameter is not None and split.rank == 1:
        listed = [int(each) for each in split.parameter.data.numpy()]
        return listed if sum(listed) == size and min(listed, default=0) >= 0 else None
    each = 1 if split is None or split.parameter is None else int(split.parameter.data.numpy())
    if each <= 0 or size // each > _MOST_PIECES:
        return None
    return [min(each, size - start) for start in range(0, size, each)]


_MOST_PIECES = 1 << 12
