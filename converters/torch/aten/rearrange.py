"""Operations that repeat, turn and shuffle elements."""

from __future__ import annotations

from collections.abc import Sequence

from isomorph.converters.torch.aten.shape import transpose
from isomorph.converters.torch.lowering import Lowering, axes_of, axis_of
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Sym, Value, ops
from isomorph.ir.shapes import elements

Sizes = Sequence[Dim]


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
    size = x.shape[axis]
    if isinstance(size, Sym) or isinstance(shift, Sym):
        places = b.emit(ops.Range(-shift, 1, size, DType.INT64))
        return b.emit(ops.Gather(axis), x, b.emit(ops.Mod(), places, b.number(size, DType.INT64)))
    cut = -shift % size if size else 0
    if cut == 0:
        return x
    tail = b.emit(ops.Slice((axis,), (cut,), (None,), (1,)), x)
    return b.emit(ops.Concat(axis), tail, b.emit(ops.Slice((axis,), (0,), (cut,), (1,)), x))


@rules.imports("aten.unfold.default")
def unfold(b: Lowering, self: Value, dimension: int, size: int, step: int) -> Value:
    """unfold(Tensor self, int dimension, int size, int step): windows of an axis, their cells along a new last axis"""
    axis = axis_of(dimension, self)
    x = self if self.rank else b.reshape(self, (1,))
    count = (x.shape[axis] - size) // step + 1
    starts = b.emit(ops.Unsqueeze((1,)), b.emit(ops.Range(0, step, count, DType.INT64)))
    cells = b.emit(ops.Add(), starts, b.emit(ops.Range(0, 1, size, DType.INT64)))
    windows = b.emit(ops.Gather(axis), x, cells)
    if not self.rank:
        return b.reshape(windows, (size,))
    order = (*range(axis + 1), *range(axis + 2, windows.rank), axis + 1)
    return windows if axis + 2 == windows.rank else b.emit(ops.Transpose(order), windows)


@rules.imports("aten.kron.default")
def kron(b: Lowering, self: Value, other: Value) -> Value:
    """kron(Tensor self, Tensor other): every element of self times all of other"""
    x, y = b.promoted(self, other)
    rank = max(x.rank, y.rank)
    rows, cells = ((*(1,) * (rank - each.rank), *each.shape) for each in (x, y))
    left = b.reshape(x, tuple(dim for size in rows for dim in (size, 1)))
    right = b.reshape(y, tuple(dim for size in cells for dim in (1, size)))
    product = b.emit(ops.And() if x.dtype is DType.BOOL else ops.Mul(), left, right)
    return b.reshape(product, tuple(row * cell for row, cell in zip(rows, cells, strict=True)))


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


@rules.imports("aten.channel_shuffle.default", "aten.native_channel_shuffle.default")
def channel_shuffle(b: Lowering, self: Value, groups: int) -> Value:
    """channel_shuffle(Tensor self, SymInt groups): channels (g, C / g) become (C / g, g)"""
    batch, channels, *spatial = self.shape
    split = b.reshape(self, (batch, groups, channels // groups, *spatial))
    swapped = b.emit(ops.Transpose((0, 2, 1, *range(3, split.rank))), split)
    return b.reshape(swapped, self.shape)
