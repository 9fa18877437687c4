"""Bags of embeddings: rows of a table, added up, averaged or maximized in groups."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import math

from isomorph.converters.torch.aten.norm import renorm
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Value, ops
from isomorph.ir.op import Op
from isomorph.ir.shapes import elements

_SUM, _MEAN, _MAX = range(3)


@rules.imports("aten.embedding_bag.default", "aten.embedding_bag.padding_idx")
def embedding_bag(
    b: Lowering,
    weight: Value,
    indices: Value,
    offsets: Value,
    scale_grad_by_freq: bool = False,
    mode: int = _SUM,
    sparse: bool = False,
    per_sample_weights: Value | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Value | None, ...]:
    """embedding_bag.padding_idx(weight (V, E), indices (I,), offsets (B,), …) -> (Tensor (B, E), statistics …)

    Bag k holds the rows from offsets[k] up to offsets[k + 1]; those of `padding_idx` do not count; an empty bag is 0.
    """
    rows = b.emit(ops.Gather(0), weight, indices)
    if per_sample_weights is not None:
        rows = b.emit(ops.Mul(), rows, b.emit(ops.Unsqueeze((1,)), b.cast(per_sample_weights, rows.dtype)))
    counted = None
    if padding_idx is not None:
        place = padding_idx if padding_idx >= 0 else weight.shape[0] + padding_idx
        counted = b.emit(ops.Not(), b.emit(ops.Equal(), indices, b.number(place, indices.dtype)))
    length = _equal_length(indices, offsets)
    if length is not None and counted is None and not include_last_offset and length != 0:
        kind: Op = (ops.ReduceSum, ops.ReduceMean, ops.ReduceMax)[mode]((1,), keepdims=False)
        made = b.emit(kind, b.reshape(rows, (offsets.shape[0], length, *rows.shape[1:])))
    else:
        bags = offsets.shape[0] - (1 if include_last_offset else 0)
        made = _grouped(b, rows, _bag_of(b, indices, offsets), counted, bags, mode)
    return made, None, None, None


@rules.imports("aten._embedding_bag.default", "aten._embedding_bag_forward_only.default")
def decomposed_embedding_bag(
    b: Lowering,
    weight: Value,
    indices: Value,
    offsets: Value,
    scale_grad_by_freq: bool = False,
    mode: int = _SUM,
    sparse: bool = False,
    per_sample_weights: Value | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[Value | None, ...]:
    """_embedding_bag(…, int padding_idx=-1), as decomposed: -1 is none"""
    padding = None if padding_idx < 0 else padding_idx
    return embedding_bag(
        b, weight, indices, offsets, False, mode, False, per_sample_weights, include_last_offset, padding
    )


def _equal_length(indices: Value, offsets: Value) -> Dim | None:
    """The length of the bags where the offsets are 0, n, 2n, …"""
    node, length = offsets.producer, None
    if node is not None and isinstance(node.op, ops.Mul):  # a range times a symbolic length
        left, right = node.inputs
        factor = None if right is None else right.producer
        node = None if left is None else left.producer
        if factor is not None and isinstance(factor.op, ops.Dims):
            (length,) = factor.op.dims
        elif node is not None:
            return None
    if node is None or not isinstance(node.op, ops.Range) or node.op.start != 0 or isinstance(node.op.step, float):
        return None
    length = node.op.step if length is None else length * node.op.step
    return length if offsets.shape[0] * length == indices.shape[0] else None


def _bag_of(b: Lowering, indices: Value, offsets: Value) -> Value:
    """The bag (I,) of each index: how many offsets are at or before its place, less one."""
    places = b.emit(ops.Unsqueeze((1,)), b.emit(ops.Range(0, 1, indices.shape[0], DType.INT64)))
    begun = b.emit(ops.GreaterOrEqual(), places, b.cast(offsets, DType.INT64))
    total = b.emit(ops.ReduceSum((1,), keepdims=False), b.cast(begun, DType.INT64))
    return b.emit(ops.Sub(), total, b.number(1, DType.INT64))


def _grouped(b: Lowering, rows: Value, bag: Value, counted: Value | None, bags: Dim, mode: int) -> Value:
    """The rows of each bag combined; those of half precision in float32, as PyTorch does."""
    if rows.dtype.itemsize < 4:
        return b.cast(_grouped(b, b.cast(rows, DType.FLOAT32), bag, counted, bags, mode), rows.dtype)
    where = b.emit(ops.Expand(rows.shape), b.emit(ops.Unsqueeze((1,)), bag))
    neutral = b.number(-math.inf if mode == _MAX else 0, rows.dtype)
    if counted is not None:
        rows = b.emit(ops.Where(), b.emit(ops.Unsqueeze((1,)), counted), rows, neutral)
    start = b.emit(ops.Expand((bags, *rows.shape[1:])), neutral)
    made = b.emit(ops.ScatterElements(0, "max" if mode == _MAX else "add"), start, where, rows)
    if mode == _SUM:
        return made
    member = b.emit(ops.ConstantOfShape(bag.shape, True, DType.BOOL)) if counted is None else counted
    none = b.emit(ops.ConstantOfShape((bags,), 0, rows.dtype))
    size = b.emit(ops.ScatterElements(0, "add"), none, bag, b.cast(member, rows.dtype))
    size = b.emit(ops.Unsqueeze((1,)), size)
    zero = b.number(0, rows.dtype)
    if mode == _MAX:
        return b.emit(ops.Where(), b.emit(ops.Equal(), size, zero), zero, made)
    return b.emit(ops.Div(), made, b.emit(ops.Max(), size, b.number(1, rows.dtype)))


@rules.imports("aten.embedding_renorm_.default", "aten.embedding_renorm.default")
def embedding_renorm(b: Lowering, self: Value, indices: Value, max_norm: float, norm_type: float) -> Value:
    """embedding_renorm_(Tensor(a!) self (V, E), Tensor indices, float max_norm, float norm_type)

    The rows at the indices, scaled to at most this p-norm; the others stay.
    """
    places = b.cast(b.reshape(indices, (elements(indices.shape), 1)), DType.INT64)
    rows = renorm(b, b.emit(ops.GatherND(), self, places), norm_type, 0, max_norm)
    return b.emit(ops.ScatterND("none"), self, places, rows)
