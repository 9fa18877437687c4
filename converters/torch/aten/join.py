"""Operations that join tensors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement

import numpy as np

from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.promotion import promote_types
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, Value, ops
from isomorph.ir.shapes import elements

Sizes = Sequence[Dim]


@rules.imports("aten.cat.default", "aten.concat.default")
def cat(b: Lowering, tensors: Sequence[Value], dim: int = 0) -> Value:
    """cat(Tensor[] tensors, int dim=0), types promoted; empty tensors of shape (0,) are left out, as torch allows"""
    kept = [tensor for tensor in tensors if tensor.shape != (0,)] or list(tensors[:1])
    dtype = kept[0].dtype
    for tensor in tensors:
        dtype = promote_types(dtype, tensor.dtype)
    return b.emit(ops.Concat(axis_of(dim, kept[0])), *(b.cast(tensor, dtype) for tensor in kept))


@rules.imports("aten._chunk_cat.default")
def chunk_cat(b: Lowering, tensors: Sequence[Value], dim: int, num_chunks: int) -> Value:
    """_chunk_cat(Tensor[] tensors, int dim, int num_chunks): padded, cut into chunks, flattened behind dim, joined"""
    pieces = []
    for x in tensors:
        axis = axis_of(dim, x)
        size = b.static(x.shape[axis], "the axis that is cut")
        length = -(-size // num_chunks)
        extra = length * num_chunks - size
        if extra:
            x = b.emit(ops.Pad(tuple((0, extra if at == axis else 0) for at in range(x.rank)), "constant", 0), x)
        rest = elements(x.shape[axis + 1 :])
        pieces.append(b.reshape(x, (*x.shape[:axis], num_chunks, length * rest)))
    return cat(b, pieces, axis_of(dim, tensors[0]) + 1)


@rules.imports("aten.stack.default")
def stack(b: Lowering, tensors: Sequence[Value], dim: int = 0) -> Value:
    """stack(Tensor[] tensors, int dim=0)"""
    axis = dim % (tensors[0].rank + 1)
    dtype = tensors[0].dtype
    for tensor in tensors:
        dtype = promote_types(dtype, tensor.dtype)
    return b.emit(ops.Concat(axis), *(b.emit(ops.Unsqueeze((axis,)), b.cast(tensor, dtype)) for tensor in tensors))


@rules.imports("aten.hstack.default")
def hstack(b: Lowering, tensors: Sequence[Value]) -> Value:
    """hstack(Tensor[] tensors): joined along axis 1, of vectors along axis 0"""
    return cat(b, [_at_least(b, x, 1) for x in tensors], 0 if tensors[0].rank <= 1 else 1)


@rules.imports("aten.vstack.default", "aten.row_stack.default")
def vstack(b: Lowering, tensors: Sequence[Value]) -> Value:
    """vstack(Tensor[] tensors): joined along axis 0, vectors as rows"""
    return cat(b, [_at_least(b, x, 2) for x in tensors], 0)


@rules.imports("aten.dstack.default")
def dstack(b: Lowering, tensors: Sequence[Value]) -> Value:
    """dstack(Tensor[] tensors): joined along axis 2, (M, N) as (M, N, 1) and (N,) as (1, N, 1)"""
    return cat(b, [_deep(b, x) for x in tensors], 2)


@rules.imports("aten.column_stack.default")
def column_stack(b: Lowering, tensors: Sequence[Value]) -> Value:
    """column_stack(Tensor[] tensors): joined along axis 1, vectors as columns"""
    return cat(b, [b.reshape(x, (*x.shape, 1)[-2:] if x.rank else (1, 1)) if x.rank < 2 else x for x in tensors], 1)


def _at_least(b: Lowering, x: Value, rank: int) -> Value:
    return b.reshape(x, ((1,) * (rank - x.rank)) + x.shape) if x.rank < rank else x


@rules.imports("aten.meshgrid.default", "aten.meshgrid.indexing")
def meshgrid(b: Lowering, tensors: Sequence[Value], indexing: str = "ij") -> Sequence[Value]:
    """meshgrid.indexing(Tensor[] tensors, *, str indexing): each vector along an axis of its own"""
    order = list(range(len(tensors)))
    if indexing == "xy" and len(order) > 1:
        order[0], order[1] = 1, 0
    sizes = [elements(x.shape) for x in tensors]
    shape = tuple(sizes[place] for place in order)
    grids = []
    for place, x in enumerate(tensors):
        axis = order.index(place)
        line = b.reshape(x, tuple(sizes[place] if other == axis else 1 for other in range(len(order))))
        grids.append(line if line.shape == shape else b.emit(ops.Expand(shape), line))
    return grids


@rules.imports("aten.cartesian_prod.default")
def cartesian_prod(b: Lowering, tensors: Sequence[Value]) -> Value:
    """cartesian_prod(Tensor[] tensors): all ways to take one element of each vector, as rows; of one vector itself"""
    if len(tensors) == 1:
        return tensors[0]
    grids = [_flat(b, grid) for grid in meshgrid(b, tensors)]
    return stack(b, grids, 1)


def _flat(b: Lowering, x: Value) -> Value:
    return b.reshape(x, (elements(x.shape),))


@rules.imports("aten.combinations.default")
def combinations_of(b: Lowering, self: Value, r: int = 2, with_replacement: bool = False) -> Value:
    """combinations(Tensor self, int r=2, bool with_replacement=False): r elements of a vector, as rows"""
    size = b.static(self.shape[0], "the vector")
    choose = combinations_with_replacement if with_replacement else combinations
    b.require(size**r <= _MOST_ROWS, f"{r} of {size} elements")
    if r == 0:
        return b.emit(ops.ConstantOfShape((0,), 0, self.dtype))
    rows = np.asarray(list(choose(range(size), r)), np.int64).reshape(-1, r)
    return b.emit(ops.Gather(0), self, b.constant(rows, "rows"))


_MOST_ROWS = 1 << 24


def _register_at_least(rank: int) -> None:
    @rules.imports(f"aten.atleast_{rank}d.default", f"aten.atleast_{rank}d.Sequence")
    def at_least(b: Lowering, self: Value | None = None, tensors: Sequence[Value] = ()) -> Value | Sequence[Value]:
        made = [_at_least(b, x, rank) if rank < 3 else _deep(b, x) for x in ([self] if self is not None else tensors)]
        return made[0] if self is not None else made

    at_least.__doc__ = f"atleast_{rank}d(Tensor self), atleast_{rank}d.Sequence(Tensor[] tensors)"


def _deep(b: Lowering, x: Value) -> Value:
    """x with three axes: (M, N) as (M, N, 1), (N,) as (1, N, 1)."""
    wide = _at_least(b, x, 2)
    return b.reshape(wide, (*wide.shape, 1)) if wide.rank == 2 else wide


for _rank in (1, 2, 3):
    _register_at_least(_rank)
