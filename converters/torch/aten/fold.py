"""Sliding windows as columns, and back: torch.nn.functional.unfold and fold."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Callable, Sequence

from isomorph.converters.torch.aten.conv import per_axis
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Value, ops

Ints = Sequence[int]


def _batched(b: Lowering, x: Value, rank: int, compute: Callable[[Value], Value]) -> Value:
    """compute(x) for x of `rank` axes; x without the batch axis gets one for the time being."""
    if x.rank == rank:
        return compute(x)
    return b.emit(ops.Squeeze((0,)), compute(b.emit(ops.Unsqueeze((0,)), x)))


@rules.imports("aten.im2col.default")
def im2col(b: Lowering, self: Value, kernel_size: Ints, dilation: Ints, padding: Ints, stride: Ints) -> Value:
    """im2col(Tensor self, int[2] kernel_size, int[2] dilation, int[2] padding, int[2] stride): (N, C * kh * kw, L)"""
    kernel, steps = per_axis(kernel_size, 2), (per_axis(dilation, 2), per_axis(padding, 2), per_axis(stride, 2))

    def columns(x: Value) -> Value:
        if any(steps[1]):
            x = b.emit(ops.Pad(((0, 0), (0, 0), *((size, size) for size in steps[1])), "constant", 0), x)
        counts: list[Dim] = []
        for axis, (window, apart, step) in enumerate(zip(kernel, steps[0], steps[2], strict=True)):
            place = 2 + 2 * axis
            count = (x.shape[place] - apart * (window - 1) - 1) // step + 1
            counts.append(count)
            x = b.emit(ops.Gather(place), x, _cells(b, window, apart, count, step))
        batch, channels = x.shape[:2]
        turned = b.emit(ops.Transpose((0, 1, 2, 4, 3, 5)), x)
        return b.reshape(turned, (batch, channels * (kernel[0] * kernel[1]), counts[0] * counts[1]))

    return _batched(b, self, 4, columns)


def _cells(b: Lowering, window: int, apart: int, count: Dim, step: int) -> Value:
    """The cell that each tap (rows) of each window (columns) reads."""
    taps = b.emit(ops.Unsqueeze((1,)), b.emit(ops.Range(0, apart, window, DType.INT64)))
    return b.emit(ops.Add(), taps, b.emit(ops.Range(0, step, count, DType.INT64)))


@rules.imports("aten.col2im.default")
def col2im(
    b: Lowering,
    self: Value,
    output_size: Sequence[Dim],
    kernel_size: Ints,
    dilation: Ints,
    padding: Ints,
    stride: Ints,
) -> Value:
    """col2im(Tensor self, SymInt[2] output_size, int[2] kernel_size, int[2] dilation, int[2] padding, int[2] stride)"""
    pads = tuple((size, size) for size in per_axis(padding, 2))
    op = ops.Col2Im(tuple(output_size), per_axis(kernel_size, 2), per_axis(stride, 2), pads, per_axis(dilation, 2))
    return _batched(b, self, 3, lambda x: b.emit(op, x))
