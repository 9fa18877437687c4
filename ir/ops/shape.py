"""Ops that move, cut, join and repeat elements, and the bridge from symbolic sizes to data.

Sizes, axes and bounds are attributes; a size may be symbolic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from isomorph.ir.dtypes import DType
from isomorph.ir.layout import Layout, LayoutRule, Perm, compose, inverse
from isomorph.ir.op import Op, TensorType, broadcast, normalize_axes, normalize_axis
from isomorph.ir.shapes import Dim, Shape, Sym, dim_max, dim_min, elements, format_shape

__all__ = [
    "Concat", "ConstantOfShape", "DepthToSpace", "Dims", "Expand", "Flatten", "Pad", "Range", "Reshape", "Slice", "SpaceToDepth", "Split",
    "Squeeze", "Tile", "Transpose", "Unsqueeze",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reshape(Op):
    """y has the elements of x in C order under `shape`: every size explicit, no 0 and no -1 placeholders.

    Differs from ONNX Reshape-24: the shape is an attribute, its sizes may be symbolic.
    """

    shape: Shape

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        before, after = elements(x.shape), elements(self.shape)
        if isinstance(before, int) and isinstance(after, int):
            self.require(before == after, f"{x} has {before} elements, {format_shape(self.shape)} has {after}")
        return (TensorType(x.dtype, self.shape),)


@dataclass(frozen=True, slots=True)
class Flatten(Op):
    """y (prod of x.shape[:axis], prod of x.shape[axis:]), elements in C order. See: ONNX Flatten-24; keras.layers.Flatten."""

    axis: int = 1

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axis = self.axis if self.axis == x.rank else normalize_axis(self.axis, x.rank)
        return (TensorType(x.dtype, (elements(x.shape[:axis]), elements(x.shape[axis:]))),)


@dataclass(frozen=True, slots=True)
class Transpose(Op):
    """y[i] = x[j] with y.shape[k] = x.shape[perm[k]], as numpy.transpose. See: ONNX Transpose-24."""

    perm: Perm

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(sorted(self.perm) == list(range(x.rank)), f"{self.perm} does not permute the axes of {x}")
        return (TensorType(x.dtype, tuple(x.shape[axis] for axis in self.perm)),)

    def permuted(self, perm: Perm) -> Op | None:
        return Transpose(compose(compose(inverse(perm), self.perm), perm))


@dataclass(frozen=True, slots=True)
class Squeeze(Op):
    """y is x without the axes `axes`, all of size 1. Differs from ONNX Squeeze-24: axes explicit and nonnegative."""

    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axes = normalize_axes(self.axes, x.rank)
        for axis in axes:
            self.require(isinstance(x.shape[axis], Sym) or x.shape[axis] == 1, f"axis {axis} of {x} is not of size 1")
        return (TensorType(x.dtype, tuple(dim for axis, dim in enumerate(x.shape) if axis not in axes)),)


@dataclass(frozen=True, slots=True)
class Unsqueeze(Op):
    """y is x with axes of size 1 inserted so that they are at `axes` of y. See: ONNX Unsqueeze-24."""

    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axes = normalize_axes(self.axes, x.rank + len(self.axes))
        rest = iter(x.shape)
        shape = tuple(1 if axis in axes else next(rest) for axis in range(x.rank + len(axes)))
        return (TensorType(x.dtype, shape),)


@dataclass(frozen=True, slots=True)
class Slice(Op):
    """y = x[starts:ends:steps] along `axes`, with NumPy's clamping and negative indices counted from the end.

    None as a start or an end means the first or the last element in the direction of the step.
    Differs from ONNX Slice-13: the bounds are attributes; a symbolic bound is taken as nonnegative and in range.
    """

    axes: tuple[int, ...]
    starts: tuple[Dim | None, ...]
    ends: tuple[Dim | None, ...]
    steps: tuple[int, ...]

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axes = normalize_axes(self.axes, x.rank)
        shape = list(x.shape)
        self.require(len(axes) == len(self.starts) == len(self.ends) == len(self.steps), "axes, starts, ends, steps differ in length")
        for axis, start, end, step in zip(axes, self.starts, self.ends, self.steps, strict=True):
            self.require(step != 0, "a step of 0")
            shape[axis] = slice_length(x.shape[axis], start, end, step)
        return (TensorType(x.dtype, tuple(shape)),)

    def permuted(self, perm: Perm) -> Op | None:
        where = inverse(perm)
        return replace(self, axes=tuple(where[axis] for axis in self.axes))


def slice_length(size: Dim, start: Dim | None, end: Dim | None, step: int) -> Dim:
    """Number of elements that a Python slice takes from an axis of this size."""
    if isinstance(size, int) and not isinstance(start, Sym) and not isinstance(end, Sym):
        return len(range(*slice(start, end, step).indices(size)))
    begin = 0 if start is None else start
    stop = size if end is None else end
    if step < 0:
        if start is None and end is None:
            return -(-size // -step)
        return dim_max(0, (begin - stop + (-step - 1)) // -step)
    if isinstance(begin, int) and begin < 0:
        begin = size + begin
    if isinstance(stop, int):
        stop = size + stop if stop < 0 else stop if stop == 0 else dim_min(size, stop) if stop < _UNBOUNDED else size
    length = (stop - begin + (step - 1)) // step
    return max(0, length) if isinstance(length, int) else length


_UNBOUNDED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Split(Op):
    """The pieces of x of the given `sizes` along `axis`, in order. See: ONNX Split-18."""

    axis: int
    sizes: tuple[Dim, ...]

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axis = normalize_axis(self.axis, x.rank)
        total = sum(self.sizes)
        if isinstance(total, int) and isinstance(x.shape[axis], int):
            self.require(total == x.shape[axis], f"sizes {self.sizes} do not add up to axis {axis} of {x}")
        return tuple(TensorType(x.dtype, (*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in self.sizes)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])


@dataclass(frozen=True, slots=True)
class Concat(Op):
    """The operands one after another along `axis`; their other sizes are equal. See: ONNX Concat-13."""

    axis: int

    inputs: ClassVar[tuple[str, ...]] = ("x*",)
    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, *operands: TensorType | None) -> tuple[TensorType, ...]:
        present = [operand for operand in operands if operand is not None]
        self.require(bool(present), "at least one operand is needed")
        dtype = self.require_same_dtype(*present)
        axis = normalize_axis(self.axis, present[0].rank)
        shape = list(present[0].shape)
        for operand in present[1:]:
            self.require(operand.rank == len(shape), f"{present[0]} and {operand} differ in rank")
            for other, (known, dim) in enumerate(zip(shape, operand.shape, strict=True)):
                if other != axis and isinstance(dim, int):
                    self.require(isinstance(known, Sym) or known == dim, f"{present[0]} and {operand} differ at axis {other}")
                    shape[other] = dim
        shape[axis] = sum((operand.shape[axis] for operand in present), start=0)
        return (TensorType(dtype, tuple(shape)),)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])


@dataclass(frozen=True, slots=True)
class Pad(Op):
    """x with `pads` (begin, end) cells added on every axis; negative numbers cut cells off.

    mode "constant": `value`; "reflect": mirrored without the border; "edge": the border; "wrap": from the other side.
    Differs from ONNX Pad-24: pads are attributes, one pair for every axis of x.
    """

    pads: tuple[tuple[Dim, Dim], ...]
    mode: Literal["constant", "reflect", "edge", "wrap"] = "constant"
    value: float | int | bool = 0.0

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(len(self.pads) == x.rank, f"{len(self.pads)} pairs of pads for {x}")
        shape = tuple(dim + begin + end for dim, (begin, end) in zip(x.shape, self.pads, strict=True))
        for dim in shape:
            self.require(isinstance(dim, Sym) or dim >= 0, f"pads {self.pads} cut more off than {x} has")
        return (TensorType(x.dtype, shape),)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, pads=tuple(self.pads[axis] for axis in perm))


@dataclass(frozen=True, slots=True)
class Expand(Op):
    """x broadcast to `shape` (in both directions, as numpy with another operand of that shape). See: ONNX Expand-13."""

    shape: Shape

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(x.dtype, broadcast(x.shape, self.shape)),)


@dataclass(frozen=True, slots=True)
class Tile(Op):
    """x repeated `repeats` times along each axis, as numpy.tile. See: ONNX Tile-13."""

    repeats: tuple[Dim, ...]

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(len(self.repeats) == x.rank, f"{len(self.repeats)} repeats for {x}")
        return (TensorType(x.dtype, tuple(dim * count for dim, count in zip(x.shape, self.repeats, strict=True))),)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, repeats=tuple(self.repeats[axis] for axis in perm))


@dataclass(frozen=True, slots=True)
class DepthToSpace(Op):
    """Channels to blocks of pixels.

    Shapes: x (N, C * s * s, H, W) in `layout`, s = `blocksize`; y (N, C, H * s, W * s).
    Channels are read as (s, s, C) in mode "DCR", as (C, s, s) in mode "CRD" (torch.nn.PixelShuffle). See: ONNX DepthToSpace-13.
    """

    blocksize: int
    mode: Literal["DCR", "CRD"] = "DCR"
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(x.rank == 4, f"data of rank 4 is needed, not {x}")
        batch, channels, spatial = self.layout.split(x.shape)
        area = self.blocksize * self.blocksize
        self.require(isinstance(channels, Sym) or channels % area == 0, f"{channels} channels are no multiple of {area}")
        return (TensorType(x.dtype, self.layout.join(batch, channels // area, [size * self.blocksize for size in spatial])),)


@dataclass(frozen=True, slots=True)
class SpaceToDepth(Op):
    """Blocks of pixels to channels, the inverse of `DepthToSpace` in mode "DCR". See: ONNX SpaceToDepth-13."""

    blocksize: int
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(x.rank == 4, f"data of rank 4 is needed, not {x}")
        batch, channels, spatial = self.layout.split(x.shape)
        area = self.blocksize * self.blocksize
        return (TensorType(x.dtype, self.layout.join(batch, channels * area, [size // self.blocksize for size in spatial])),)


@dataclass(frozen=True, slots=True)
class Dims(Op):
    """Symbolic sizes as data: y = the value of each expression in `dims`, int64, shape (len(dims),), or () if `scalar`.

    Takes no operands: a writer computes the named dimensions from the shapes of the graph's inputs.
    """

    dims: tuple[Dim, ...]
    scalar: bool = False

    inputs: ClassVar[tuple[str, ...]] = ()

    def infer(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(not self.scalar or len(self.dims) == 1, "a scalar takes one dimension")
        return (TensorType(DType.INT64, () if self.scalar else (len(self.dims),)),)


@dataclass(frozen=True, slots=True)
class ConstantOfShape(Op):
    """A tensor of `shape` and `dtype` in which every element is `value`. Differs from ONNX-24: all attributes."""

    shape: Shape
    value: float | int | bool
    dtype: DType

    inputs: ClassVar[tuple[str, ...]] = ()

    def infer(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(self.dtype, self.shape),)


@dataclass(frozen=True, slots=True)
class Range(Op):
    """y = start, start + step, ... (`length` elements) in `dtype`. Differs from ONNX Range-11: all attributes."""

    start: Dim | float
    step: int | float
    length: Dim
    dtype: DType

    inputs: ClassVar[tuple[str, ...]] = ()

    def infer(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(self.dtype, (self.length,)),)
