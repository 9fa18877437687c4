"""Ops that move, cut, join and repeat elements, and the bridge from symbolic sizes to data.

Sizes, axes and bounds are attributes; a size may be symbolic.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from isomorph.errors import ShapeError
from isomorph.ir.dtypes import DType
from isomorph.ir.layout import Layout, LayoutRule, Perm, compose, inverse
from isomorph.ir.op import Op, TensorType, broadcast, normalize_axes, normalize_axis, operation
from isomorph.ir.ops.elementwise import Add, Cast, Mul, scalar
from isomorph.ir.ops.numerics import Array, padded
from isomorph.ir.ops.reduce import CumSum
from isomorph.ir.shapes import Dim, Shape, Sym, dim_min, elements, format_shape, provably_different

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = [
    "BindDim", "Concat", "ConstantOfShape", "DepthToSpace", "Dims", "Expand", "Flatten", "Pad", "Range", "Reshape",
    "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
]  # fmt: skip


def _require_sizes(op: Op, what: str, sizes: Shape) -> None:
    """Require that no size that is known is negative."""
    op.require(
        all(isinstance(size, Sym) or size >= 0 for size in sizes), f"{what} {format_shape(sizes)} has a negative size"
    )


def _static(shape: Shape) -> tuple[int, ...]:
    """A shape whose symbols were replaced (see evaluate.bind) as ints."""
    if any(isinstance(dim, Sym) for dim in shape):
        raise ShapeError(f"the shape {format_shape(shape)} is not known here", advice="bind its dimensions first")
    return tuple(int(dim) for dim in shape)  # type: ignore[arg-type]


@operation
class Reshape(Op):
    """y has the elements of x in C order under `shape`: every size explicit, no 0 and no -1 placeholders.

    Differs from ONNX Reshape-24: the shape is an attribute, its sizes may be symbolic.
    """

    shape: Shape

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        _require_sizes(self, "shape", self.shape)
        before, after = elements(x.shape), elements(self.shape)
        if before != after and provably_different(before, after):
            raise ShapeError(f"Reshape: {x} has {before} elements, {format_shape(self.shape)} has {after}")
        return (TensorType(x.dtype, self.shape),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return x.reshape(_static(self.shape))


@operation
class Flatten(Op):
    """y (prod of x.shape[:axis], prod of x.shape[axis:]), in C order. See: ONNX Flatten-24; keras.layers.Flatten."""

    axis: int = 1

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axis = self.axis if self.axis == x.rank else normalize_axis(self.axis, x.rank)
        return (TensorType(x.dtype, (elements(x.shape[:axis]), elements(x.shape[axis:]))),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        (kind,) = self.infer(TensorType(DType.of(x.dtype), x.shape))
        return x.reshape(_static(kind.shape))

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        (kind,) = self.infer(x.type)
        return b.emit(Reshape(kind.shape), x)


@operation
class Transpose(Op):
    """y[i] = x[j] with y.shape[k] = x.shape[perm[k]], as numpy.transpose. See: ONNX Transpose-24."""

    perm: Perm

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(sorted(self.perm) == list(range(x.rank)), f"{self.perm} does not permute the axes of {x}")
        return (TensorType(x.dtype, tuple(x.shape[axis] for axis in self.perm)),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return x.transpose(self.perm)

    def permuted(self, perm: Perm) -> Op | None:
        return Transpose(compose(compose(inverse(perm), self.perm), perm))


@operation
class Squeeze(Op):
    """y is x without the axes `axes`, all of size 1. Differs from ONNX Squeeze-24: axes explicit and nonnegative."""

    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axes = normalize_axes(self.axes, x.rank)
        for axis in axes:
            self.require(isinstance(x.shape[axis], Sym) or x.shape[axis] == 1, f"axis {axis} of {x} is not of size 1")
        return (TensorType(x.dtype, tuple(dim for axis, dim in enumerate(x.shape) if axis not in axes)),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return np.squeeze(x, self.axes)


@operation
class Unsqueeze(Op):
    """y is x with axes of size 1 inserted so that they are at `axes` of y. See: ONNX Unsqueeze-24."""

    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axes = normalize_axes(self.axes, x.rank + len(self.axes))
        rest = iter(x.shape)
        shape = tuple(1 if axis in axes else next(rest) for axis in range(x.rank + len(axes)))
        return (TensorType(x.dtype, shape),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return np.expand_dims(x, self.axes)


@operation
class Slice(Op):
    """y = x[starts:ends:steps] along `axes`, with NumPy's clamping and negative indices counted from the end.

    None as a start or an end means the first or the last element in the direction of the step.
    Differs from ONNX Slice-13: the bounds are attributes; a symbolic bound is taken as nonnegative and in range, and so
    is any start on an axis of symbolic size (`infer` gives N - 5 for x[5:], which is wrong for N < 5).
    """

    axes: tuple[int, ...]
    starts: tuple[Dim | None, ...]
    ends: tuple[Dim | None, ...]
    steps: tuple[int, ...]

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axes = normalize_axes(self.axes, x.rank)
        shape = list(x.shape)
        self.require(
            len(axes) == len(self.starts) == len(self.ends) == len(self.steps),
            "axes, starts, ends, steps differ in length",
        )
        for axis, start, end, step in zip(axes, self.starts, self.ends, self.steps, strict=True):
            self.require(step != 0, "a step of 0")
            shape[axis] = slice_length(x.shape[axis], start, end, step)
        return (TensorType(x.dtype, tuple(shape)),)

    def permuted(self, perm: Perm) -> Op | None:
        where = inverse(perm)
        return replace(self, axes=tuple(where[axis] for axis in self.axes))

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        cut = [slice(None)] * x.ndim
        for axis, start, end, step in zip(self.axes, self.starts, self.ends, self.steps, strict=True):
            cut[axis] = slice(start, end, step)
        return x[tuple(cut)]


def slice_length(size: Dim, start: Dim | None, end: Dim | None, step: int) -> Dim:
    """Number of elements that a Python slice takes from an axis of this size.

    Where the size or a bound is symbolic, an end is clamped to the size, and a start is taken to lie within it.
    """
    if isinstance(size, int) and not isinstance(start, Sym) and not isinstance(end, Sym):
        return len(range(*slice(start, end, step).indices(size)))
    if step > 0:
        begin = 0 if start is None else _from_front(size, start)
        stop = size if end is None else _from_front(size, end)
        length = (_at_most(stop, size) - begin + (step - 1)) // step
    else:
        begin = size - 1 if start is None else _at_most(_from_front(size, start), size - 1)
        stop = -1 if end is None else _from_front(size, end)
        length = (begin - stop + (-step - 1)) // -step
    return max(0, length) if isinstance(length, int) else length


def _from_front(size: Dim, bound: Dim) -> Dim:
    return size + bound if isinstance(bound, int) and bound < 0 else bound


def _at_most(bound: Dim, limit: Dim) -> Dim:
    """min(bound, limit) where an int meets a symbolic limit; a symbolic bound is in range."""
    if isinstance(bound, Sym) or bound <= 0:
        return bound
    return limit if bound >= _UNBOUNDED else dim_min(limit, bound)


_UNBOUNDED = 2**31 - 1


@operation
class Split(Op):
    """The pieces of x of the given `sizes` along `axis`, in order. See: ONNX Split-18."""

    axis: int
    sizes: tuple[Dim, ...]

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axis = normalize_axis(self.axis, x.rank)
        _require_sizes(self, "sizes", self.sizes)
        total = sum(self.sizes)
        if isinstance(total, int) and isinstance(x.shape[axis], int):
            self.require(total == x.shape[axis], f"sizes {self.sizes} do not add up to axis {axis} of {x}")
        return tuple(TensorType(x.dtype, (*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in self.sizes)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])

    def evaluate(self, x: Array) -> tuple[Array, ...]:  # type: ignore[override]
        return tuple(np.split(x, np.cumsum(_static(self.sizes))[:-1], self.axis))


@operation
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
                    self.require(
                        isinstance(known, Sym) or known == dim, f"{present[0]} and {operand} differ at axis {other}"
                    )
                    shape[other] = dim
        shape[axis] = sum((operand.shape[axis] for operand in present), start=0)
        return (TensorType(dtype, tuple(shape)),)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])

    def evaluate(self, *operands: Array) -> Array:  # type: ignore[override]
        return np.concatenate(operands, self.axis)


@operation
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

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        pads = [_static(pair) for pair in self.pads]
        if self.mode == "constant":
            return padded(x, [(begin, end) for begin, end in pads], self.value)
        kept = padded(x, [(min(begin, 0), min(end, 0)) for begin, end in pads], 0)
        return np.pad(kept, [(max(begin, 0), max(end, 0)) for begin, end in pads], mode=self.mode)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """Slices of x, or a constant, joined to it, axis by axis. Raises ShapeError for more cells than x can give."""
        for axis, pair in enumerate(self.pads):
            begin, end = _static(pair)
            if begin < 0 or end < 0:
                x = b.emit(Slice((axis,), (max(-begin, 0),), (min(end, 0) or None,), (1,)), x)
        for axis, pair in enumerate(self.pads):
            begin, end = (max(size, 0) for size in _static(pair))
            before = [self._border(b, x, axis, begin, at_end=False)] if begin else []
            after = [self._border(b, x, axis, end, at_end=True)] if end else []
            x = b.emit(Concat(axis), *before, x, *after) if before or after else x
        return x

    def _border(self, b: Builder, x: Value, axis: int, count: int, *, at_end: bool) -> Value:
        """The `count` cells that stand before or after x along `axis`."""
        if self.mode == "constant":
            shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
            return b.emit(ConstantOfShape(shape, self.value, x.dtype))
        size = x.shape[axis]
        if self.mode == "edge":
            cell = b.emit(Slice((axis,), (-1 if at_end else 0,), (None if at_end else 1,), (1,)), x)
            return b.emit(Tile(tuple(count if other == axis else 1 for other in range(x.rank))), cell)
        most = size if self.mode == "wrap" else size - 1
        self.require(isinstance(most, Sym) or count <= most, f"{count} cells beside an axis of {size}")
        if self.mode == "wrap":
            bounds: tuple[int, int | None] = (0, count) if at_end else (-count, None)
            return b.emit(Slice((axis,), (bounds[0],), (bounds[1],), (1,)), x)
        mirrored = b.emit(Slice((axis,), (-count - 1 if at_end else 1,), (-1 if at_end else count + 1,), (1,)), x)
        return b.emit(Slice((axis,), (None,), (None,), (-1,)), mirrored)


@operation
class Expand(Op):
    """x broadcast to `shape` (in both directions, as numpy with another operand of that shape). See: ONNX Expand-13."""

    shape: Shape

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        _require_sizes(self, "shape", self.shape)
        return (TensorType(x.dtype, broadcast(x.shape, self.shape)),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return np.broadcast_to(x, np.broadcast_shapes(x.shape, _static(self.shape)))


@operation
class Tile(Op):
    """x repeated `repeats` times along each axis, as numpy.tile. See: ONNX Tile-13."""

    repeats: tuple[Dim, ...]

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(len(self.repeats) == x.rank, f"{len(self.repeats)} repeats for {x}")
        _require_sizes(self, "repeats", self.repeats)
        return (TensorType(x.dtype, tuple(dim * count for dim, count in zip(x.shape, self.repeats, strict=True))),)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, repeats=tuple(self.repeats[axis] for axis in perm))

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return np.tile(x, _static(self.repeats))


@operation
class DepthToSpace(Op):
    """Channels to blocks of pixels.

    Shapes: x (N, C * s * s, H, W) in `layout`, s = `blocksize`; y (N, C, H * s, W * s).
    Channels are read as (s, s, C) in mode "DCR", as (C, s, s) in mode "CRD" (torch.nn.PixelShuffle).
    See: ONNX DepthToSpace-13.
    """

    blocksize: int
    mode: Literal["DCR", "CRD"] = "DCR"
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(x.rank == 4 and self.blocksize > 0, f"blocks of {self.blocksize} of data {x}, not of rank 4")
        batch, channels, spatial = self.layout.split(x.shape)
        area = self.blocksize * self.blocksize
        self.require(isinstance(channels, Sym) or channels % area == 0, f"{channels} channels, no multiple of {area}")
        sizes = [size * self.blocksize for size in spatial]
        return (TensorType(x.dtype, self.layout.join(batch, channels // area, sizes)),)

    def _split(self, shape: Shape) -> tuple[Shape, Perm]:
        """The shape with channels and blocks apart, and the permutation that puts blocks behind their pixels."""
        batch, channels, (height, width) = self.layout.split(shape)
        block = self.blocksize
        depth = channels // (block * block)
        parts = (block, block, depth) if self.mode == "DCR" else (depth, block, block)
        if self.layout is Layout.CHANNELS_LAST:
            return (batch, height, width, *parts), (0, 1, 3, 2, 4, 5) if self.mode == "DCR" else (0, 1, 4, 2, 5, 3)
        return (batch, *parts, height, width), (0, 3, 4, 1, 5, 2) if self.mode == "DCR" else (0, 1, 4, 2, 5, 3)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        shape, perm = self._split(x.shape)
        (kind,) = self.infer(TensorType(DType.of(x.dtype), x.shape))
        return x.reshape(_static(shape)).transpose(perm).reshape(_static(kind.shape))

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        shape, perm = self._split(x.shape)
        (kind,) = self.infer(x.type)
        return b.emit(Reshape(kind.shape), b.emit(Transpose(perm), b.emit(Reshape(shape), x)))


@operation
class SpaceToDepth(Op):
    """Blocks of pixels to channels, the inverse of `DepthToSpace` in mode "DCR". See: ONNX SpaceToDepth-13."""

    blocksize: int
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(x.rank == 4 and self.blocksize > 0, f"blocks of {self.blocksize} of data {x}, not of rank 4")
        batch, channels, spatial = self.layout.split(x.shape)
        block = self.blocksize
        for size in spatial:
            self.require(isinstance(size, Sym) or size % block == 0, f"a size of {x} is no multiple of {block}")
        shape = self.layout.join(batch, channels * (block * block), [size // block for size in spatial])
        return (TensorType(x.dtype, shape),)

    def _split(self, shape: Shape) -> tuple[Shape, Perm]:
        """The shape with pixels and blocks apart, and the permutation that puts blocks before the channels."""
        batch, channels, (height, width) = self.layout.split(shape)
        block = self.blocksize
        pixels = (height // block, block, width // block, block)
        if self.layout is Layout.CHANNELS_LAST:
            return (batch, *pixels, channels), (0, 1, 3, 2, 4, 5)
        return (batch, channels, *pixels), (0, 3, 5, 1, 2, 4)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        shape, perm = self._split(x.shape)
        (kind,) = self.infer(TensorType(DType.of(x.dtype), x.shape))
        return x.reshape(_static(shape)).transpose(perm).reshape(_static(kind.shape))

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        shape, perm = self._split(x.shape)
        (kind,) = self.infer(x.type)
        return b.emit(Reshape(kind.shape), b.emit(Transpose(perm), b.emit(Reshape(shape), x)))


@operation
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

    def evaluate(self) -> Array:  # type: ignore[override]
        return np.array(_static(self.dims), np.int64).reshape(() if self.scalar else -1)


@operation
class BindDim(Op):
    """y = [x]: names a number that the graph computes. From here on the named dimension `dim` has the value of x.

    x is an int64 of shape (), y of shape (1,), which is what `Dims` gives for `dim` from here on. That the value is not
    negative is for the source to guarantee.
    """

    dim: Dim

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(isinstance(self.dim, int) or self.dim.name is not None, f"{self.dim} is no named dimension")
        self.require(x.rank == 0 and x.dtype is DType.INT64, f"an int64 scalar is needed, not {x}")
        return (TensorType(DType.INT64, (1,)),)

    def defines(self) -> frozenset[str]:
        return self.dim.names() if isinstance(self.dim, Sym) else frozenset()

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return np.reshape(x, 1)


@operation
class ConstantOfShape(Op):
    """A tensor of `shape` and `dtype` in which every element is `value`. Differs from ONNX-24: all attributes."""

    shape: Shape
    value: float | int | bool
    dtype: DType

    inputs: ClassVar[tuple[str, ...]] = ()

    def infer(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        _require_sizes(self, "shape", self.shape)
        return (TensorType(self.dtype, self.shape),)

    def evaluate(self) -> Array:  # type: ignore[override]
        return np.full(_static(self.shape), self.value, self.dtype.numpy)

    def decompose(self, b: Builder) -> Value:  # type: ignore[override]
        return b.emit(Expand(self.shape), b.constant(np.asarray(self.value).astype(self.dtype.numpy), "value"))


@operation
class Range(Op):
    """y = start, start + step, ... (`length` elements) in `dtype`. Differs from ONNX Range-11: all attributes."""

    start: Dim | float
    step: int | float
    length: Dim
    dtype: DType

    inputs: ClassVar[tuple[str, ...]] = ()

    def infer(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        _require_sizes(self, "length", (self.length,))
        return (TensorType(self.dtype, (self.length,)),)

    def evaluate(self) -> Array:  # type: ignore[override]
        (length,) = _static((self.length,))
        return (self.start + self.step * np.arange(length)).astype(self.dtype.numpy)  # type: ignore[operator]

    def decompose(self, b: Builder) -> Value:  # type: ignore[override]
        ones = b.emit(ConstantOfShape((self.length,), 1, self.dtype))
        steps = b.emit(CumSum(axis=0, exclusive=True), ones)
        if self.step != 1:
            steps = b.emit(Mul(), steps, scalar(b, self.step, steps))
        if isinstance(self.start, Sym):
            start = b.emit(Dims((self.start,), scalar=True))
            return b.emit(Add(), steps, start if self.dtype is DType.INT64 else b.emit(Cast(self.dtype), start))
        return b.emit(Add(), steps, scalar(b, self.start, steps)) if self.start else steps
