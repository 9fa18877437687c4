"""Operations that move, cut, join, repeat and create elements."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from isomorph.converters.torch.lowering import Lowering, axes_of, axis_of
from isomorph.converters.torch.promotion import promote_types
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, Sym, Value, ops
from isomorph.ir.shapes import ceil_div, elements

Sizes = Sequence[Dim]

_LAST = 2**63 - 1


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


@rules.imports("aten.transpose.int", "aten.swapaxes.default")
def transpose(
    b: Lowering, self: Value, dim0: int | None = None, dim1: int | None = None, axis0: int = 0, axis1: int = 0
) -> Value:
    """transpose.int(Tensor self, int dim0, int dim1)"""
    order = list(range(self.rank))
    if self.rank > 1:
        first, second = axis_of(axis0 if dim0 is None else dim0, self), axis_of(axis1 if dim1 is None else dim1, self)
        order[first], order[second] = order[second], order[first]
    return b.emit(ops.Transpose(tuple(order)), self)


@rules.imports("aten.t.default", "aten.numpy_T.default")
def reverse_axes(b: Lowering, self: Value) -> Value:
    """t(Tensor self): the axes in reverse"""
    return b.emit(ops.Transpose(tuple(reversed(range(self.rank)))), self)


@rules.imports("aten.mT.default")
def matrix_transpose(b: Lowering, self: Value) -> Value:
    """mT(Tensor self): the last two axes exchanged"""
    return transpose(b, self, -2, -1)


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


@rules.imports("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims")
def squeeze(b: Lowering, self: Value, dim: Sequence[int] | int | None = None) -> Value:
    """squeeze.dims(Tensor self, int[] dim): without those of the axes that have size 1"""
    axes = tuple(axis for axis in axes_of(dim, self) if self.shape[axis] == 1)
    return b.emit(ops.Squeeze(axes), self) if axes else self


@rules.imports("aten.unsqueeze.default")
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


@rules.imports("aten.repeat.default", "aten.tile.default")
def repeat(b: Lowering, self: Value, repeats: Sizes | None = None, dims: Sizes | None = None) -> Value:
    """repeat(Tensor self, SymInt[] repeats), tile(Tensor self, SymInt[] dims)"""
    counts: tuple[Dim, ...] = tuple(repeats if repeats is not None else dims or ())
    counts = (1,) * (self.rank - len(counts)) + counts
    x = b.reshape(self, (1,) * (len(counts) - self.rank) + self.shape)
    return b.emit(ops.Tile(counts), x)


@rules.imports("aten.repeat_interleave.self_int")
def repeat_interleave(
    b: Lowering, self: Value, repeats: int, dim: int | None = None, output_size: Dim | None = None
) -> Value:
    """repeat_interleave.self_int(Tensor self, SymInt repeats, int? dim=None): each element `repeats` times in a row"""
    x = self if dim is not None else b.reshape(self, (elements(self.shape),))
    axis = axis_of(dim or 0, x)
    apart = (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :])
    wide = (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :])
    joined = (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :])
    return b.reshape(b.emit(ops.Expand(wide), b.reshape(x, apart)), joined)


@rules.imports("aten.cat.default", "aten.concat.default")
def cat(b: Lowering, tensors: Sequence[Value], dim: int = 0) -> Value:
    """cat(Tensor[] tensors, int dim=0), types promoted; empty tensors of shape (0,) are left out, as torch allows"""
    kept = [tensor for tensor in tensors if tensor.shape != (0,)] or list(tensors[:1])
    dtype = kept[0].dtype
    for tensor in tensors:
        dtype = promote_types(dtype, tensor.dtype)
    return b.emit(ops.Concat(axis_of(dim, kept[0])), *(b.cast(tensor, dtype) for tensor in kept))


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
    wide = [_at_least(b, x, 2) for x in tensors]
    return cat(b, [b.reshape(x, (*x.shape, 1)) if x.rank == 2 else x for x in wide], 2)


@rules.imports("aten.column_stack.default")
def column_stack(b: Lowering, tensors: Sequence[Value]) -> Value:
    """column_stack(Tensor[] tensors): joined along axis 1, vectors as columns"""
    return cat(b, [b.reshape(x, (*x.shape, 1)[-2:] if x.rank else (1, 1)) if x.rank < 2 else x for x in tensors], 1)


def _at_least(b: Lowering, x: Value, rank: int) -> Value:
    return b.reshape(x, ((1,) * (rank - x.rank)) + x.shape) if x.rank < rank else x


def _split(b: Lowering, x: Value, axis: int, sizes: Sizes) -> Sequence[Value]:
    return b.emit_many(ops.Split(axis, tuple(sizes)), x)


def _even(b: Lowering, x: Value, axis: int, size: Dim) -> Sequence[Value]:
    total = b.static(x.shape[axis], "the axis that is split")
    length = max(b.static(size, "the size of the pieces"), 1)
    b.require(
        max(-(-total // length), 1) == len(b.recorded), f"{len(b.recorded)} pieces of {length} do not make up {total}"
    )
    sizes = [min(length, total - start) for start in range(0, total, length)] or [0]
    return _split(b, x, axis, sizes)


@rules.imports("aten.chunk.default")
def chunk(b: Lowering, self: Value, chunks: int, dim: int = 0) -> Sequence[Value]:
    """chunk(Tensor self, int chunks, int dim=0): pieces of ceil(size / chunks), the last one smaller"""
    axis = axis_of(dim, self)
    if isinstance(self.shape[axis], Sym):
        return _split(b, self, axis, _recorded_sizes(b, axis))
    return _even(b, self, axis, ceil_div(self.shape[axis], chunks))


@rules.imports("aten.split.Tensor")
def split(b: Lowering, self: Value, split_size: Dim, dim: int = 0) -> Sequence[Value]:
    """split.Tensor(Tensor self, SymInt split_size, int dim=0): pieces of split_size, the last one smaller"""
    axis = axis_of(dim, self)
    if isinstance(self.shape[axis], Sym):
        return _split(b, self, axis, _recorded_sizes(b, axis))
    return _even(b, self, axis, split_size)


def _recorded_sizes(b: Lowering, axis: int) -> Sizes:
    """What torch recorded for the pieces of a symbolic axis."""
    sizes = []
    for kind in b.recorded:
        if kind is None or kind.rank <= axis:
            raise b.refusal("the sizes of the pieces are not known")
        sizes.append(kind.shape[axis])
    return sizes


@rules.imports("aten.split_with_sizes.default", "aten.split.sizes")
def split_with_sizes(
    b: Lowering, self: Value, split_sizes: Sizes | None = None, dim: int = 0, split_size: Sizes | None = None
) -> Sequence[Value]:
    """split_with_sizes(Tensor self, SymInt[] split_sizes, int dim=0)"""
    return _split(b, self, axis_of(dim, self), split_sizes if split_sizes is not None else split_size or ())


@rules.imports("aten.tensor_split.sections", "aten.tensor_split.indices")
def tensor_split(
    b: Lowering, self: Value, sections: int | None = None, dim: int = 0, indices: Sizes | None = None
) -> Sequence[Value]:
    """tensor_split.sections(Tensor self, SymInt sections, int dim=0): the first pieces are one longer, if it must be"""
    axis = axis_of(dim, self)
    size = b.static(self.shape[axis], "the axis that is split")
    if sections is not None:
        return _split(b, self, axis, [size // sections + (place < size % sections) for place in range(sections)])
    stated = [b.static(place, "a place to split at") for place in indices or ()]
    places = [min(max(place + size if place < 0 else place, 0), size) for place in stated]
    pairs = list(pairwise([0, *places, size]))
    b.require(all(begin <= end for begin, end in pairs), f"places {stated} that are not in order")
    return _split(b, self, axis, [end - begin for begin, end in pairs])


@rules.imports("aten.unbind.int")
def unbind(b: Lowering, self: Value, dim: int = 0) -> Sequence[Value]:
    """unbind.int(Tensor self, int dim=0)"""
    axis = axis_of(dim, self)
    pieces = _even(b, self, axis, 1)
    return [b.emit(ops.Squeeze((axis,)), piece) for piece in pieces]


@rules.imports("aten.select.int")
def select(b: Lowering, self: Value, dim: int, index: Dim) -> Value:
    """select.int(Tensor self, int dim, SymInt index): the elements at one index, without the axis"""
    axis = axis_of(dim, self)
    end = None if index == -1 else index + 1
    return b.emit(ops.Squeeze((axis,)), b.emit(ops.Slice((axis,), (index,), (end,), (1,)), self))


@rules.imports("aten.slice.Tensor")
def slice_axis(
    b: Lowering, self: Value, dim: int = 0, start: Dim | None = None, end: Dim | None = None, step: int = 1
) -> Value:
    """slice.Tensor(Tensor self, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1)"""
    axis = axis_of(dim, self)
    size = self.shape[axis]
    stop = None if end is None or end in (_LAST, size) else end
    begin = 0 if start is None else start
    if isinstance(stop, int) and isinstance(size, int) and stop >= size:
        stop = None
    if begin == 0 and stop is None and step == 1:
        return self
    return b.emit(ops.Slice((axis,), (begin,), (stop,), (step,)), self)


@rules.imports("aten.narrow.default")
def narrow(b: Lowering, self: Value, dim: int, start: Dim, length: Dim) -> Value:
    """narrow(Tensor self, int dim, SymInt start, SymInt length)"""
    return b.emit(ops.Slice((axis_of(dim, self),), (start,), (start + length,), (1,)), self)


_MODES: dict[str, Literal["constant", "reflect", "edge", "wrap"]] = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


@rules.imports("aten.pad.default")
def pad(b: Lowering, self: Value, pad: Sizes, mode: str = "constant", value: float | None = None) -> Value:
    """pad(Tensor self, SymInt[] pad, str mode='constant', float? value=None): pairs from the last axis backwards"""
    pairs = [(0, 0)] * self.rank
    for position in range(len(pad) // 2):
        pairs[self.rank - 1 - position] = (pad[2 * position], pad[2 * position + 1])  # type: ignore[assignment]
    if not any(begin != 0 or end != 0 for begin, end in pairs):
        return self
    filled: float | int = 0 if value is None else value
    number = filled if self.dtype.is_float else int(filled)
    return b.emit(ops.Pad(tuple(pairs), _MODES[mode], number), self)


@rules.imports("aten.constant_pad_nd.default")
def constant_pad(b: Lowering, self: Value, pad: Sizes, value: float = 0) -> Value:
    """constant_pad_nd(Tensor self, SymInt[] pad, Scalar value=0)"""
    return _pad(b, self, pad, "constant", value)


@rules.imports("aten.reflection_pad1d.default", "aten.reflection_pad2d.default", "aten.reflection_pad3d.default")
def reflection_pad(b: Lowering, self: Value, padding: Sizes) -> Value:
    """reflection_pad2d(Tensor self, SymInt[4] padding)"""
    return _pad(b, self, padding, "reflect")


@rules.imports("aten.replication_pad1d.default", "aten.replication_pad2d.default", "aten.replication_pad3d.default")
def replication_pad(b: Lowering, self: Value, padding: Sizes) -> Value:
    """replication_pad2d(Tensor self, SymInt[4] padding)"""
    return _pad(b, self, padding, "replicate")


_pad = pad


@rules.imports("aten.flip.default")
def flip(b: Lowering, self: Value, dims: Sequence[int]) -> Value:
    """flip(Tensor self, int[] dims)"""
    axes = axes_of(dims, self) if dims else ()
    count = len(axes)
    return b.emit(ops.Slice(axes, (None,) * count, (None,) * count, (-1,) * count), self) if axes else self


@rules.imports("aten.fliplr.default")
def fliplr(b: Lowering, self: Value) -> Value:
    """fliplr(Tensor self): axis 1 in reverse"""
    return flip(b, self, (1,))


@rules.imports("aten.flipud.default")
def flipud(b: Lowering, self: Value) -> Value:
    """flipud(Tensor self): axis 0 in reverse"""
    return flip(b, self, (0,))


@rules.imports("aten.rot90.default")
def rot90(b: Lowering, self: Value, k: int = 1, dims: Sequence[int] = (0, 1)) -> Value:
    """rot90(Tensor self, int k=1, int[] dims=[0,1]): k quarter turns from the first to the second axis"""
    first, second = dims
    if k % 4 == 0:
        return b.emit(ops.Identity(), self)
    if k % 4 == 2:
        return flip(b, self, (first, second))
    turned = transpose(b, self, first, second)
    return flip(b, turned, (first if k % 4 == 1 else second,))


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


@rules.imports("aten.roll.default")
def roll(b: Lowering, self: Value, shifts: Sizes, dims: Sequence[int] = ()) -> Value:
    """roll(Tensor self, SymInt[1] shifts, int[1] dims=[]): what leaves at one end comes in at the other"""
    if not dims:
        flat = b.reshape(self, (elements(self.shape),))
        return b.reshape(_rolled(b, flat, 0, shifts[0]), self.shape)
    x = self
    for shift, dim in zip(shifts, dims, strict=True):
        x = _rolled(b, x, axis_of(dim, x), shift)
    return x


def _rolled(b: Lowering, x: Value, axis: int, shift: Dim) -> Value:
    size = b.static(x.shape[axis], "the axis that is rolled")
    cut = -b.static(shift, "the shift") % size if size else 0
    if cut == 0:
        return x
    tail = b.emit(ops.Slice((axis,), (cut,), (None,), (1,)), x)
    return b.emit(ops.Concat(axis), tail, b.emit(ops.Slice((axis,), (0,), (cut,), (1,)), x))


@rules.imports("aten.pixel_shuffle.default")
def pixel_shuffle(b: Lowering, self: Value, upscale_factor: int) -> Value:
    """pixel_shuffle(Tensor self, int upscale_factor)"""
    if self.rank == 4:
        return b.emit(ops.DepthToSpace(upscale_factor, "CRD"), self)
    lead = self.shape[:-3]
    flat = b.reshape(self, (elements(lead), *self.shape[-3:]))
    shuffled = b.emit(ops.DepthToSpace(upscale_factor, "CRD"), flat)
    return b.reshape(shuffled, (*lead, *shuffled.shape[1:]))


@rules.imports("aten.pixel_unshuffle.default")
def pixel_unshuffle(b: Lowering, self: Value, downscale_factor: int) -> Value:
    """pixel_unshuffle(Tensor self, int downscale_factor): channels in the order (C, s, s)"""
    *lead, channels, height, width = self.shape
    s, n = downscale_factor, self.rank - 3
    split = b.reshape(self, (*lead, channels, height // s, s, width // s, s))
    moved = b.emit(ops.Transpose((*range(n), n, n + 2, n + 4, n + 1, n + 3)), split)
    return b.reshape(moved, (*lead, channels * (s * s), height // s, width // s))


@rules.imports("aten.channel_shuffle.default")
def channel_shuffle(b: Lowering, self: Value, groups: int) -> Value:
    """channel_shuffle(Tensor self, SymInt groups): channels (g, C / g) become (C / g, g)"""
    batch, channels, *spatial = self.shape
    split = b.reshape(self, (batch, groups, channels // groups, *spatial))
    swapped = b.emit(ops.Transpose((0, 2, 1, *range(3, split.rank))), split)
    return b.reshape(swapped, self.shape)
