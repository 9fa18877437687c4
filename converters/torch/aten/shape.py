"""Shapes and the order of axes."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.converters.torch.lowering import Lowering, axes_of, axis_of
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Value, ops
from isomorph.ir.shapes import elements

Sizes = Sequence[Dim]


@rules.imports("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default")
def view(b: Lowering, self: Value, size: Sizes | None = None, shape: Sizes | None = None) -> Value:
    """view(Tensor self, SymInt[] size), reshape(Tensor self, SymInt[] shape)"""
    wanted = size if size is not None else shape
    if wanted is None:
        raise b.refusal("it has no size")
    return b.reshape(self, b.size(wanted, self.shape))


@rules.imports("aten.view_as.default", "aten.reshape_as.default")
def view_as(b: Lowering, self: Value, other: Value) -> Value:
    """view_as(Tensor self, Tensor other)"""
    return b.reshape(self, other.shape)


@rules.imports("aten.flatten.using_ints")
def flatten(b: Lowering, self: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    """flatten.using_ints(Tensor self, int start_dim=0, int end_dim=-1)"""
    first, last = axis_of(start_dim, self), axis_of(end_dim, self)
    if first == 1 and last == self.rank - 1 and self.rank > 2:
        return b.emit(ops.Flatten(1), self)
    merged = elements(self.shape[first : last + 1])
    return b.reshape(self, (*self.shape[:first], merged, *self.shape[last + 1 :]))


@rules.imports("aten.unflatten.int")
def unflatten(b: Lowering, self: Value, dim: int, sizes: Sizes) -> Value:
    """unflatten.int(Tensor self, int dim, SymInt[] sizes)"""
    axis = axis_of(dim, self)
    split = b.size(sizes, (self.shape[axis],))
    return b.reshape(self, (*self.shape[:axis], *split, *self.shape[axis + 1 :]))


@rules.imports("aten.permute.default")
def permute(b: Lowering, self: Value, dims: Sequence[int]) -> Value:
    """permute(Tensor self, int[] dims)"""
    return b.emit(ops.Transpose(tuple(axis_of(dim, self) for dim in dims)), self)


@rules.imports(
    "aten.transpose.int",
    "aten.transpose.default",
    "aten.transpose_.default",
    "aten.swapaxes.default",
    "aten.swapaxes_.default",
)
def transpose(
    b: Lowering, self: Value, dim0: int | None = None, dim1: int | None = None, axis0: int = 0, axis1: int = 0
) -> Value:
    """transpose.int(Tensor self, int dim0, int dim1)"""
    order = list(range(self.rank))
    if self.rank > 1:
        first, second = axis_of(axis0 if dim0 is None else dim0, self), axis_of(axis1 if dim1 is None else dim1, self)
        order[first], order[second] = order[second], order[first]
    return b.emit(ops.Transpose(tuple(order)), self)


@rules.imports("aten.t.default", "aten.t_.default", "aten.numpy_T.default")
def reverse_axes(b: Lowering, self: Value) -> Value:
    """t(Tensor self): the axes in reverse"""
    return b.emit(ops.Transpose(tuple(reversed(range(self.rank)))), self)


@rules.imports("aten.mT.default", "aten.mH.default", "aten.adjoint.default", "aten.matrix_H.default")
def matrix_transpose(b: Lowering, self: Value) -> Value:
    """mT(Tensor self), mH(Tensor self) of real numbers: the last two axes exchanged"""
    return transpose(b, self, -2, -1)


@rules.imports("aten.ravel.default")
def ravel(b: Lowering, self: Value) -> Value:
    """ravel(Tensor self)"""
    return b.reshape(self, (elements(self.shape),))


@rules.imports("aten.view.dtype")
def view_as_type(b: Lowering, self: Value, dtype: DType) -> Value:
    """view.dtype(Tensor self, ScalarType dtype): the same bits as another type, of integers of one size"""
    if dtype is self.dtype:
        return b.emit(ops.Identity(), self)
    whole = all(kind.is_integer or kind is DType.BOOL for kind in (self.dtype, dtype))
    b.require(
        whole and dtype.itemsize == self.dtype.itemsize and dtype is not DType.BOOL,
        f"the bits of {self.dtype} as {dtype}; ONNX has BitCast from opset 26 on",
    )
    return b.emit(ops.Cast(dtype), self)


@rules.imports("aten.as_strided.default")
def as_strided(b: Lowering, self: Value, size: Sizes, stride: Sizes, storage_offset: Dim | None = None) -> Value:
    """as_strided(Tensor self, SymInt[] size, SymInt[] stride, SymInt? storage_offset=None), of an input in C order"""
    b.require(self.is_input, "how the elements of a tensor that is computed lie in memory is not known")
    lengths = [b.static(each, "a size") for each in size]
    steps = [b.static(each, "a stride") for each in stride]
    b.require(elements(lengths) <= _MOST_CELLS, f"a tensor of {elements(lengths)} elements")  # type: ignore[operator]
    places = np.full((), 0 if storage_offset is None else b.static(storage_offset, "the offset"), np.int64)
    for length, step in zip(lengths, steps, strict=True):
        places = places[..., None] + np.arange(length) * step
    return b.emit(ops.Gather(0), ravel(b, self), b.constant(places, "places"))


_MOST_CELLS = 1 << 24


@rules.imports("aten.movedim.int", "aten.movedim.intlist")
def movedim(b: Lowering, self: Value, source: Sequence[int] | int, destination: Sequence[int] | int) -> Value:
    """movedim.intlist(Tensor self, int[] source, int[] destination)"""
    origins = [axis_of(dim, self) for dim in ((source,) if isinstance(source, int) else source)]
    targets = [axis_of(dim, self) for dim in ((destination,) if isinstance(destination, int) else destination)]
    rest = iter(axis for axis in range(self.rank) if axis not in origins)
    placed = dict(zip(targets, origins, strict=True))
    return b.emit(
        ops.Transpose(tuple(placed[axis] if axis in placed else next(rest) for axis in range(self.rank))), self
    )


@rules.imports(
    "aten.squeeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.squeeze_.default",
    "aten.squeeze_.dim",
    "aten.squeeze_.dims",
)
def squeeze(b: Lowering, self: Value, dim: Sequence[int] | int | None = None) -> Value:
    """squeeze.dims(Tensor self, int[] dim): without those of the axes that have size 1"""
    chosen = () if dim == () else axes_of(dim, self)
    axes = tuple(axis for axis in chosen if self.shape[axis] == 1)
    return b.emit(ops.Squeeze(axes), self) if axes else self


@rules.imports("aten.unsqueeze.default", "aten.unsqueeze_.default")
def unsqueeze(b: Lowering, self: Value, dim: int) -> Value:
    """unsqueeze(Tensor self, int dim)"""
    return b.emit(ops.Unsqueeze((dim % (self.rank + 1),)), self)


@rules.imports("aten.expand.default")
def expand(b: Lowering, self: Value, size: Sizes, implicit: bool = False) -> Value:
    """expand(Tensor self, SymInt[] size): -1 keeps a size"""
    return _expanded(b, self, size)


@rules.imports("aten.expand_as.default")
def expand_as(b: Lowering, self: Value, other: Value) -> Value:
    """expand_as(Tensor self, Tensor other)"""
    return _expanded(b, self, other.shape)


def _expanded(b: Lowering, x: Value, size: Sizes) -> Value:
    lead = len(size) - x.rank
    shape = tuple(x.shape[axis - lead] if dim == -1 else dim for axis, dim in enumerate(size))
    return x if shape == x.shape else b.emit(ops.Expand(shape), x)
